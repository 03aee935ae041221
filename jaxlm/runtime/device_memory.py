"""Memory of a device. In: the devices, a compiled program. Out: bytes, or None where nothing is known."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

_CGROUP = Path("sys/fs/cgroup")


def capacity() -> int | None:
    """Bytes of memory of one device; on a CPU the machine's, or what a container may have of it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    if jax.default_backend() == "cpu" and hasattr(os, "sysconf"):
        return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *container_limits()])
    return None


def limit() -> int | None:
    """Bytes that a program on one device cannot exceed: its capacity, of a CPU with all the swap there is."""
    found = capacity()
    if found is None or jax.default_backend() != "cpu":
        return found
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # no Linux: swap may grow
        return None
    return found + sum(1024 * int(line.split()[1]) for line in lines if line.startswith("SwapTotal:"))


def container_limits(root: Path = Path("/")) -> Iterator[int]:
    """Bytes that the control groups of this process may have (both versions); nothing where there are none."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = ("memory", "memory.limit_in_bytes") if controllers else ("", "memory.max")
        group = root / _CGROUP / top / path.lstrip("/")
        for folder in (group, *group.parents):  # a container may see its own group as the topmost
            text = (folder / name).read_text().strip() if (folder / name).is_file() else "max"
            if text.isdecimal():
                yield int(text)


def estimate(compiled: Any, platform: str | None = None) -> int | None:
    """Bytes per device that a compiled step needs: arguments and temporaries; donated outputs cost nothing.

    Of a TPU (`platform`; None: where this process runs) what lives at once: its compiler lets temporaries take the
    place of arguments that are read already. A step that takes 26 GiB adds up to 35 (Llama 8B on v6e-8, libtpu 0.0.42).
    It counts arguments that lie in the host's memory among these, which are none of the device's.
    """
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    added = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + max(new, 0)
    live = getattr(analysis, "peak_memory_in_bytes", 0)
    live -= getattr(analysis, "host_argument_size_in_bytes", 0)
    known = (platform or jax.default_backend()) == "tpu" and live >= analysis.argument_size_in_bytes
    return live if known else added


def of_host(compiled: Any) -> int:
    """Bytes of its host's memory that a compiled step needs for each device; 0 where that is the device's as well."""
    analysis = compiled.memory_analysis()
    names = ("host_argument_size_in_bytes", "host_temp_size_in_bytes")
    return sum(getattr(analysis, name, 0) for name in names)


def settled(result: Any) -> Any:
    """`result`; on a CPU not before it is there.

    What is dispatched to a CPU holds its memory from then on, whatever has to end first: three steps of SmolLM2 under
    way held 18.0 GiB, one at a time 7.6, and none of them ends sooner (2 cores, 2026-11-26). Other devices need work
    ahead of them.
    """
    return jax.block_until_ready(result) if jax.default_backend() == "cpu" else result
