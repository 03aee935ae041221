"""What a run has read, as one number. In: rows with their numbers. Out: digests, whose sum does not depend on order.

The digest of a row is the SHA-256 of what the model sees before anything is drawn (masks, spans): tokens, segments,
positions, texts and columns, with the row's number and that of its stage and task. A stream is the sum of its rows'
digests modulo 2^256 (a multiset hash: Bellare & Micciancio 1997; Clarke et al. 2003), so hosts add up their own rows,
and a run goes on from a number. It finds accidents and plain edits; who may choose many rows freely can forge a sum
(Wagner 2002), so it is no signature.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from jaxlm.batch import Row

VERSION = 1  # raise it when the same rows give other digests
BITS = 256


def digest(row: Row, label: str, number: int) -> bytes:
    """32 bytes of row `number` of the stage and task that `label` names."""
    state = hashlib.sha256(f"jaxlm row {VERSION}\0{label}\0{number}\0{len(row.tokens_T)}\0".encode())
    for values in (row.tokens_T, row.segments_T, row.positions_T, row.texts_T):
        state.update(_raw(values))
    for name in sorted(row.columns):
        values = row.columns[name]
        state.update(f"{name}\0{values.dtype.str}\0{len(values)}\0".encode() + _raw(values))
    return state.digest()


def digests(rows: Sequence[Row], label: str, numbers: Sequence[int]) -> np.ndarray:
    """uint8 [rows, 32]."""
    made = [digest(row, label, number) for row, number in zip(rows, numbers, strict=True)]
    return np.frombuffer(b"".join(made), np.uint8).reshape(-1, BITS // 8)


def total(digests_B: np.ndarray) -> int:
    """The sum of some rows' digests, below 2^256."""
    return sum(int.from_bytes(one.tobytes(), "little") for one in digests_B) % 2**BITS


def _raw(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
