"""The host's memory where nothing but the CPU computes. In: the platform. Out: an allocator that keeps what is freed.

A step on a CPU allocates and frees gigabytes. By default glibc gives them back to the system each time, and the next
step touches every page anew: 588,000 page faults per BERT-base step, 3.82 s against 3.28 s without them (2 cores,
8 x 128 tokens, 2026-11-21). Huge pages do as well on an idle machine and worse (4.5 s) on one with little free memory.

What is kept has holes, and grows: SmolLM2-135M, whose step needs 4.5 GiB, held 14.2 at most in 23 steps, an evaluation
and a checkpoint (2026-11-27). So a run that needs much of the machine's memory gives it back after all.
"""

import ctypes
import glob
import os
import sys

# malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8
_GROWTH = 5  # kept memory over what a step needs; 4 was measured


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory for the next allocation; whether it did. Call before threads are started."""
    if not sys.platform.startswith("linux") or _accelerated():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # One arena: memory of others comes in blocks of 64 MiB at most, and from the system beyond.
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 256 << 20, _ARENA_MAX: 1}
    accepted = [mallopt(option, value) for option, value in settings.items()]
    return all(accepted)


def bound_freed_memory(needed: float | None, capacity: float | None) -> bool:
    """Ends the keeping if `needed` bytes, grown by what holes cost, would not fit `capacity`; whether it did."""
    if not needed or not capacity or needed * _GROWTH <= capacity or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 1 << 20, _TRIM_THRESHOLD: 256 << 20}  # 65536: glibc's own
    accepted = [mallopt(option, value) for option, value in settings.items()]
    return all(accepted)


def _accelerated() -> bool:
    devices = ("/dev/nvidia[0-9]*", "/dev/accel[0-9]*", "/dev/vfio/[0-9]*", "/dev/kfd")
    return os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(glob.glob, devices))
