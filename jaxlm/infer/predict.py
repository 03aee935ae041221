"""Many texts through one compiled program. In: rows of ids, and a jitted function of a batch. Out: its results, by row.

A program gets the model as an argument, weights and all (a bound module is a pytree), never as a constant: it is then
small, compiled once for all weights, and found again by the next call. Batches hold rows of similar length and have few
shapes; what stands beside a row in its batch does not change its result.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Array, Batch

# Lengths that rows, prompts and rooms are padded to: these, then multiples of the last.
_SIZES = (16, 32, 48, 64, 96, 128, 192, 256)

Fields = Callable[[np.ndarray], dict[str, Array]]  # tokens_BT -> further fields of the batch


def size(length: int) -> int:
    """The next larger length that programs are compiled for."""
    return next((size for size in _SIZES if length <= size), -(-length // _SIZES[-1]) * _SIZES[-1])


def by_row(
    program: Callable[[Batch], Any],
    rows: Sequence[Sequence[int]],
    *,
    pad: int,
    longest: int,
    fields: Fields,
    batch_size: int = 32,
) -> list[Any]:
    """What `program` returns for every row, as numpy, in the order of the rows; none is longer than `longest`."""
    order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
    parts = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    # All are under way before the first result is waited for.
    results = [program(_batch([rows[k] for k in part], pad, longest, batch_size, fields)) for part in parts]
    found: dict[int, Any] = {}
    for part, result in zip(parts, jax.device_get(results), strict=True):
        found |= {k: jax.tree.map(lambda a, i=i: a[i], result) for i, k in enumerate(part)}
    return [found[k] for k in range(len(rows))]


def _batch(rows: list[Sequence[int]], pad: int, longest: int, most: int, fields: Fields) -> Batch:
    """One text a row; empty rows behind them, up to a power of two."""
    width = min(size(max(map(len, rows))), longest)
    height = min(1 << (len(rows) - 1).bit_length(), most)
    tokens_BT = np.full((height, width), pad, np.int32)
    segments_BT = np.zeros((height, width), np.int32)
    for row, ids in enumerate(rows):
        tokens_BT[row, : len(ids)], segments_BT[row, : len(ids)] = ids, 1
    return Batch(
        tokens_BT=tokens_BT,
        segments_BT=segments_BT,
        positions_BT=np.arange(width, dtype=np.int32)[None] * segments_BT,
        types_BT=np.zeros_like(tokens_BT),
        **fields(tokens_BT),
    )
