"""Which tiles the TPU's attention kernel works in: those of least cost. In: what queries see. Out: `BlockSizes`.

A kernel walks a grid of tiles, of queries x keys. A step takes its time also where nobody sees anything; larger tiles
have fewer steps, and compute more of what a causal mask hides. `COSTS` are cycles as libtpu schedules the kernel's
code, counted by `tools/splash_tiles.py`; nothing was run. The backward pass is one kernel that forms all gradients and
leaves a part of dq for every tile of keys, where that is one, or else a kernel for dq and one for dk and dv.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as pallas

UNIT = 128  # tiles are multiples of it
# Of dq, beside each other in memory, to be summed: of two the sum alone takes 16,000 cycles of a head at 2,048 keys on
# v5e and 33,000 on v6e, as XLA estimates it, more than one kernel instead of two saves.
_PARTS = 1
_LARGEST = 1024  # twice that does not fit the memory of a core (VMEM) of v5p, and wins 4 % on v5e, 9 % on v6e
_BYTES = 256  # of a head's vector in such a tile; wider ones take half
# Keys that are computed at once: more need more registers than there are, fewer start the units too often.
_AT_ONCE = (512, 384, 640, 896)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cycles of a kernel, of heads up to 128 wide."""

    step: float  # of the grid
    fill: float  # of a tile that is computed, whatever its size
    square: float  # of 128 x 128 scores
    line: float  # of 128 queries (of the kernel for dk and dv: keys), once for all that they see
    part: float = 0.0  # of dq: of 128 queries, for every tile of keys


# By the start of a device_kind; others are like the first. jax 0.10.2, libtpu 0.0.42, 2026-11-27.
COSTS: Mapping[str, Mapping[str, Cost]] = {
    "TPU v5 lite": {
        "forward": Cost(276.0, 222.4, 63.5, 171.1, 0.0),
        "dq": Cost(165.0, 133.4, 91.2, 40.4, 0.0),
        "dkv": Cost(210.0, 194.3, 120.3, 80.5, 0.0),
        "fused": Cost(68.0, 192.8, 152.3, 106.4, 87.5),
    },
    "TPU v5": {
        "forward": Cost(481.0, 208.9, 64.7, 171.1, 0.0),
        "dq": Cost(188.0, 130.8, 91.1, 40.6, 0.0),
        "dkv": Cost(384.0, 202.5, 119.8, 80.8, 0.0),
        "fused": Cost(186.0, 227.1, 151.6, 111.3, 72.4),
    },
    "TPU v6 lite": {
        "forward": Cost(325.0, 338.9, 44.7, 87.4, 0.0),
        "dq": Cost(177.0, 225.6, 58.4, 20.2, 0.0),
        "dkv": Cost(236.0, 330.3, 65.8, 40.3, 0.0),
        "fused": Cost(68.0, 399.9, 81.1, 65.2, 57.0),
    },
}


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """What the queries of a row see: keys from `before` places in front of them to `after` behind (None: all)."""

    places_T: np.ndarray  # of the queries, in the order in which they lie
    keys: int
    before: int | None
    after: int | None

    def tiles(self, q: int, kv: int) -> np.ndarray:
        """bool [tiles of queries, tiles of keys]: which are computed."""
        rows, first = self.places_T.reshape(-1, q), np.arange(0, self.keys, kv)
        found = np.ones((len(rows), len(first)), bool)
        if self.after is not None:
            found &= first <= rows.max(axis=1, keepdims=True) + self.after
        if self.before is not None:
            found &= first + kv > rows.min(axis=1, keepdims=True) - self.before
        return found


def cycles(kernel: str, cost: Cost, seen: Seen, q: int, kv: int) -> float:
    """Of one head of a row."""
    computed = seen.tiles(q, kv)
    lines, columns = computed.shape
    if kernel == "fused":
        steps, along = lines * columns, columns * kv
    elif kernel == "dkv":
        steps, along = columns * computed.sum(axis=0).max(), columns * kv
    else:
        steps, along = lines * computed.sum(axis=1).max(), lines * q
    squares = q * kv / UNIT**2
    return float(
        steps * cost.step
        + computed.sum() * (cost.fill + squares * cost.square)
        + along / UNIT * cost.line
        + columns * lines * q / UNIT * cost.part
    )


def sizes(seen: Seen, share: int, width: int, itemsize: int, device_kind: str) -> pallas.BlockSizes:
    """Tiles of queries divide the `share` that lies together, those of keys the keys; both are in 128s."""
    (q, kv), _ = _best("forward", seen, share, width, itemsize, device_kind)
    fused = _best("fused", seen, share, width, itemsize, device_kind)
    dq, dkv = (_best(name, seen, share, width, itemsize, device_kind) for name in ("dq", "dkv"))
    one = fused[1] <= dq[1] + dkv[1]
    (q_dkv, kv_dkv), (q_dq, kv_dq) = (fused if one else dkv)[0], dq[0]
    return pallas.BlockSizes(
        block_q=q,
        block_kv=kv,
        block_kv_compute=at_once(kv),
        block_q_dkv=q_dkv,
        block_kv_dkv=kv_dkv,
        block_kv_dkv_compute=at_once(kv_dkv),
        block_q_dq=None if one else q_dq,
        block_kv_dq=None if one else kv_dq,
        use_fused_bwd_kernel=one,
    )


def by_kernel(seen: Seen, made: pallas.BlockSizes, width: int, device_kind: str) -> dict[str, float]:
    """Cycles of one head of a row, forward and backward, by what jax calls the kernels: fwd, dkv and, if apart, dq."""
    cost = lambda kernel: _cost(kernel, width, device_kind)
    backward = "fused" if made.use_fused_bwd_kernel else "dkv"
    found = {
        "fwd": cycles("forward", cost("forward"), seen, made.block_q, made.block_kv),
        "dkv": cycles(backward, cost(backward), seen, made.block_q_dkv or 0, made.block_kv_dkv or 0),
    }
    if not made.use_fused_bwd_kernel:
        found["dq"] = cycles("dq", cost("dq"), seen, made.block_q_dq or 0, made.block_kv_dq or 0)
    return found


def at_once(kv: int) -> int:
    """Keys of a tile that are computed together."""
    return next((keys for keys in _AT_ONCE if kv % keys == 0), kv)


def costs(device_kind: str) -> Mapping[str, Cost]:
    """By kernel."""
    known = next((start for start in COSTS if device_kind.startswith(start)), next(iter(COSTS)))
    return COSTS[known]


def _cost(kernel: str, width: int, device_kind: str) -> Cost:
    one = costs(device_kind)[kernel]
    return dataclasses.replace(one, square=one.square * -(-width // UNIT))


def _best(
    kernel: str, seen: Seen, share: int, width: int, itemsize: int, device_kind: str
) -> tuple[tuple[int, int], float]:
    """(tile, cycles); of equal ones the largest. Endless cycles where no tile is allowed."""
    vectors = -(-width // UNIT)
    largest = _LARGEST if vectors * UNIT * itemsize <= _BYTES else _LARGEST // 2
    one = _cost(kernel, width, device_kind)
    found = [
        (cycles(kernel, one, seen, q, kv), -q, -kv)
        for q in _divisors(share, largest)
        for kv in _divisors(seen.keys, largest)
        if kernel != "fused" or seen.keys // kv <= _PARTS
    ]
    best, q, kv = min(found, default=(float("inf"), 0, 0))
    return (-q, -kv), best


def _divisors(length: int, largest: int) -> list[int]:
    return [tile for tile in range(UNIT, min(length, largest) + 1, UNIT) if length % tile == 0]
