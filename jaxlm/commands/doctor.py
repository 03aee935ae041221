"""What is installed here, and what is wrong with it. Exits with 0, or 78 when something must change.

    jaxlm doctor

In: this machine. Out: a report fit for a bug report (versions, devices, memory, disk, environment), then the
common mistakes it found, each with its fix. Guarantee: changes nothing; a check that fails itself is a line,
not a stack trace.
"""

import glob
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.data import places
from jaxlm.errors import EXIT_DONE, EXIT_USER, UserError

# Lowest tested version, and the first that is not: the ranges of pyproject.toml.
TESTED: dict[str, tuple[str, str]] = {
    "jax": ("0.10.2", "0.13"),
    "jaxlib": ("0.10.2", "0.13"),
    "flax": ("0.12.8", "0.13"),
    "optax": ("0.2.8", "0.3"),
    "orbax-checkpoint": ("0.12.8", "0.13"),
    "grain": ("0.2.18", "0.3"),
    "numpy": ("2.0", "3"),
    "tokenizers": ("0.22", "0.24"),
    "sentencepiece": ("0.2.3", "0.3"),
}
_ALSO_SHOWN = (
    "array-record",
    "ml-collections",
    "rich",
    "libtpu",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
)
_PREFIXES = ("JAX_", "JAXLM_", "XLA_", "TPU_", "LIBTPU_", "CUDA_", "NVIDIA_", "SLURM_", "TOKENIZERS_", "OMP_")
_MIN_FREE_GIB, _MIN_SHM_MIB = 5, 256


def main(argv: Sequence[str] = ()) -> int:
    """Prints the report and the findings."""
    table.Parser(__name__, __doc__).options(argv)
    versions = installed([*TESTED, *_ALSO_SHOWN])
    devices, device_error = devices_seen()
    print(f"python      {platform.python_version()} at {sys.executable}")
    print(f"system      {platform.platform()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB memory")
    print("packages    " + ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    print("devices     " + (device_error or ", ".join(devices)))
    cache, _ = cache_folder()
    for name, folder in (("workdir", Path.cwd()), *([("cache", cache)] if cache else [])):
        print(f"{name:<12}{folder}: {free_gib(folder):.1f} GiB free")
    for name, value in sorted(os.environ.items()):
        if name.startswith(_PREFIXES):
            print(f"environment {name}={value}")
    problems = [*version_problems(versions), *device_problems(devices, device_error, versions, os.environ)]
    problems += folder_problems()
    hints = environment_hints(os.environ)
    for problem in problems:
        print(f"PROBLEM     {problem}")
    for hint in hints:
        print(f"hint        {hint}")
    print("ok: nothing that must change" if not problems else f"{len(problems)} problem(s) found")
    return EXIT_USER if problems else EXIT_DONE


def installed(names: list[str]) -> dict[str, str]:
    """Version of every package; '' where it is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return versions


def devices_seen() -> tuple[list[str], str]:
    """("8 x TPU v4", ...) as JAX sees them, and an error's first line."""
    try:
        import jax

        kinds = [f"{device.device_kind} ({device.platform})" for device in jax.devices()]
    except Exception as error:
        return [], (str(error).strip().splitlines() or [type(error).__name__])[0]
    return [f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds)], ""


def version_problems(versions: Mapping[str, str]) -> list[str]:
    """Missing packages, versions outside the tested ranges, and jax parts of different versions."""
    found = []
    for name, (low, high) in TESTED.items():
        version = versions.get(name, "")
        if not version:
            found.append(f'{name} is not installed; pip install "{name}>={low},<{high}"')
        elif not _key(low) <= _key(version) < _key(high):
            found.append(f'{name} {version} is not tested; pip install "{name}>={low},<{high}"')
    jax, flax = versions.get("jax", ""), versions.get("flax", "")
    if jax and flax and _key(jax) >= (0, 11) and _key("0.12.8") <= _key(flax) < _key("0.12.10"):
        found.append(f'flax {flax} does not import with jax {jax}; pip install "flax>=0.12.10,<0.13"')
    for part in ("jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin"):
        version = versions.get(part, "")
        if jax and version and _key(version)[:2] != _key(jax)[:2]:
            found.append(f'{part} {version} does not belong to jax {jax}; pip install "{part}=={jax}"')
    return found


def device_problems(
    devices: list[str], error: str, versions: Mapping[str, str], environment: Mapping[str, str]
) -> list[str]:
    """An accelerator that is there and not used, or cannot be used."""
    if error:
        busy = any(word in error.lower() for word in ("already in use", "busy", "lockfile", "in use by"))
        fix = (
            "end the other process that uses it"
            if busy
            else "see the message; JAX_PLATFORMS=cpu trains on the CPU"
        )
        return [f"no devices: {error}; {fix}"]
    if any("(cpu)" not in device for device in devices):
        return []
    forced = environment.get("JAX_PLATFORMS", "")
    for name, present, package, extra in (
        ("an NVIDIA GPU", gpu_present(), "jax-cuda13-plugin", "cuda"),
        ("a TPU", tpu_present(), "libtpu", "tpu"),
    ):
        if not present:
            continue
        if forced == "cpu":
            return [f"JAX_PLATFORMS=cpu although there is {name}; unset JAX_PLATFORMS"]
        if not (versions.get(package) or (extra == "cuda" and versions.get("jax-cuda12-plugin"))):
            return [f'there is {name}, but jax is installed for the CPU only; pip install "jaxlm[{extra}]"']
        return [f"there is {name}, jax does not use it; check its driver, and that no other process holds it"]
    return []


def folder_problems(folder: Path | None = None, cache: Path | None = None) -> list[str]:
    """Folders that are full or cannot be written."""
    default, found = cache_folder()
    cache = cache or default
    for name, path in (
        ("working folder", folder or Path.cwd()),
        *([("cache (JAXLM_CACHE)", cache)] if cache else []),
    ):
        if free_gib(path) < _MIN_FREE_GIB:
            found.append(
                f"the {name} {path} has {free_gib(path):.1f} GiB free; use another disk or free some space"
            )
        if not os.access(_existing(path), os.W_OK):
            found.append(f"the {name} {path} cannot be written; choose another or change its permissions")
    return found


def cache_folder() -> tuple[Path | None, list[str]]:
    """The cache, or None and what is wrong with it."""
    try:
        return places.default_cache(), []
    except UserError as error:
        return None, [str(error)]


def environment_hints(environment: Mapping[str, str]) -> list[str]:
    """What works, but slower or noisier than it could."""
    hints = []
    shm = Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).total < _MIN_SHM_MIB * 2**20:
        hints.append(
            "little shared memory in /dev/shm (a container's default): --shm-size=1g, or data.workers=0"
        )
    if environment.get("TOKENIZERS_PARALLELISM", "").lower() in ("false", "0"):
        hints.append("TOKENIZERS_PARALLELISM=false makes the preparation of a corpus slow; unset it")
    if "xla_force_host_platform_device_count" in environment.get("XLA_FLAGS", ""):
        hints.append("XLA_FLAGS asks for virtual CPU devices: good for tests, slow for training")
    if environment.get("JAX_DISABLE_JIT", "").lower() in ("1", "true"):
        hints.append("JAX_DISABLE_JIT is set: nothing is compiled; unset it")
    if environment.get("JAX_DEBUG_NANS", "").lower() in ("1", "true"):
        hints.append("JAX_DEBUG_NANS is set: every step waits for its result; unset it for long runs")
    return hints


def gpu_present() -> bool:
    """Whether the machine has an NVIDIA GPU, without opening it."""
    return bool(glob.glob("/dev/nvidia[0-9]*"))


def tpu_present() -> bool:
    """Whether the machine has a TPU, without opening it."""
    vfio = glob.glob("/dev/vfio/[0-9]*") and importlib.util.find_spec("libtpu")
    return bool(glob.glob("/dev/accel[0-9]*") or vfio)


def memory_gib() -> float:
    """Physical memory; NaN where it cannot be read."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError):
        return float("nan")


def free_gib(folder: Path) -> float:
    """Free space where `folder` is, or will be."""
    return shutil.disk_usage(_existing(folder)).free / 2**30


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _key(version: str) -> tuple[int, ...]:
    """'0.10.2.post1' as (0, 10, 2)."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
