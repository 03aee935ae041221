"""The compilation cache on disk: the second start of a run compiles nothing. In: the
cache folder.

Guarantees: programs of another processor are never loaded (a home folder may be shared by different
machines); a cache that cannot be written costs one warning line.
"""

import hashlib
import os
import platform
from collections.abc import Callable
from pathlib import Path

import jax


def enable(folder: Path, say: Callable[[str], None] = print) -> Path | None:
    """Switches the cache in `folder` on; returns its place, or None. JAX_COMPILATION_CACHE_DIR has precedence."""
    if given := getattr(jax.config, "jax_compilation_cache_dir", None):
        return Path(given)
    target = folder / "compilation" / _machine()
    try:
        target.mkdir(parents=True, exist_ok=True)
        probe = target / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        say(f"WARNING: no compilation cache: {target} cannot be written ({error.strerror}); set JAXLM_CACHE")
        return None
    jax.config.update("jax_compilation_cache_dir", str(target))
    # jax skips what compiles in under 1 s, which is all of a small model.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return target


def _machine() -> str:
    """The processor's features: jax's key leaves them out; code for features that are missing crashes."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:12]}"
