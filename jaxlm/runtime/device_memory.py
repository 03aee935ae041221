"""Memory of a device. In: the devices, a compiled program. Out: bytes, or None where nothing is known."""

import os
from typing import Any

import jax


def capacity() -> int | None:
    """Bytes of memory of one device; on a CPU the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if jax.default_backend() == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def estimate(compiled: Any) -> int | None:
    """Bytes per device that a compiled step needs: arguments and temporaries; donated outputs cost nothing."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + max(new, 0)
