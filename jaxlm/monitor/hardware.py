"""What is known of an accelerator: the one table of peaks. In: a device_kind. Out: rates of one JAX device.

Vendor data sheets, dense bfloat16 without sparsity. Guarantee: what is not known is None, never guessed.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One JAX device. TPU v2, v3 and 7x show two of them per chip, so theirs are half a chip's."""

    kind: str  # the start of its device_kind
    peak: float  # FLOP/s in dense bfloat16
    memory: float | None = None  # bytes that a program may have of its HBM
    bandwidth: float | None = None  # bytes/s of its HBM
    link: float | None = None  # bytes/s of one link to a neighbour, one way
    outside: float | None = None  # bytes/s to other slices, through the data centre's network
    clock: float | None = None  # Hz, of the compiler's cycles


_GIB = 2**30

# The first match counts. TPU: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e} (2026-11) for peak, HBM bandwidth and the
# network of the data centre; a link is the "bidirectional interconnect bandwidth" of a chip / its links (4 or 6) / 2.
# Their HBM is 32, 16, 95 and 32 GiB; `memory` is what libtpu 0.0.42 says is available when a program asks for too much.
# Clocks: the peak / (cores x matrix units x their size squared x 2), 1.05, 1.5 and 1.75 GHz; of v6e half of it, which
# is what its compiler counts in. NVIDIA: data sheets of the SXM form unless named otherwise, in 10^9 bytes; a link is
# all of NVLink one way, `outside` one network port for each GPU.
CHIPS: tuple[Chip, ...] = (
    Chip(kind="TPU v2", peak=22.5e12),
    Chip(kind="TPU v3", peak=61.5e12),
    Chip(kind="TPU v4 lite", peak=138e12),
    Chip(
        kind="TPU v4",
        peak=275e12,
        memory=30.75 * _GIB,
        bandwidth=1200e9,
        link=50e9,
        outside=6.25e9,
        clock=1.05e9,
    ),
    Chip(
        kind="TPU v5 lite",
        peak=197e12,
        memory=15.75 * _GIB,
        bandwidth=819e9,
        link=50e9,
        outside=3.125e9,
        clock=1.5e9,
    ),
    Chip(kind="TPU v5e", peak=197e12),
    Chip(
        kind="TPU v5",
        peak=459e12,
        memory=95.74 * _GIB,
        bandwidth=2765e9,
        link=100e9,
        outside=6.25e9,
        clock=1.75e9,
    ),
    Chip(
        kind="TPU v6",
        peak=918e12,
        memory=31.25 * _GIB,
        bandwidth=1638e9,
        link=100e9,
        outside=12.5e9,
        clock=1.75e9,
    ),
    Chip(kind="TPU7x", peak=1153.5e12),
    Chip(kind="NVIDIA A100", peak=312e12, memory=80e9, bandwidth=2039e9, link=300e9, outside=25e9),
    Chip(kind="NVIDIA A800", peak=312e12),
    Chip(kind="NVIDIA H100 PCIe", peak=756e12),
    Chip(kind="NVIDIA H100 NVL", peak=835e12),
    Chip(kind="NVIDIA H100", peak=989e12, memory=80e9, bandwidth=3350e9, link=450e9, outside=50e9),
    Chip(kind="NVIDIA H800", peak=989e12),
    Chip(kind="NVIDIA H200 NVL", peak=835e12),
    Chip(kind="NVIDIA H200", peak=989e12, memory=141e9, bandwidth=4800e9, link=450e9, outside=50e9),
    Chip(kind="NVIDIA GH200", peak=989e12),
    Chip(kind="NVIDIA B200", peak=2250e12, memory=180e9, bandwidth=8000e9, link=900e9, outside=50e9),
    Chip(kind="NVIDIA GB200", peak=2500e12),
    Chip(kind="NVIDIA L40S", peak=362e12),
    Chip(kind="NVIDIA L4", peak=121e12),
    Chip(kind="NVIDIA A10G", peak=70e12),
    Chip(kind="NVIDIA A10", peak=125e12),
    Chip(kind="NVIDIA GeForce RTX 3090", peak=71e12),
    Chip(kind="NVIDIA GeForce RTX 4090", peak=165e12),
)


def chip(device_kind: str) -> Chip | None:
    """What is known of a device, or None when it is not in the table."""
    return next((one for one in CHIPS if device_kind.lower().startswith(one.kind.lower())), None)


def peak_flops(device_kind: str) -> float | None:
    """FLOP/s of one JAX device in dense bfloat16, or None when it is not in the table (CPUs have no peak)."""
    found = chip(device_kind)
    return found.peak if found else None
