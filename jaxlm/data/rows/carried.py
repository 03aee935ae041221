"""Columns that items carry into rows. In: shards, names of columns. Out: what they say of a piece of a document.

Of a label or number one value, of a column of spans one a token, `NONE` at special tokens. An objective reads them from
its `Row` (`of_items`, `of_tokens`). Every kind of item whose pieces stand for records takes `columns`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxlm.batch import NONE
from jaxlm.data.rows.items import Shards, digest


@dataclasses.dataclass(frozen=True)
class Carried:
    """The named columns of some shards; none by default."""

    shards: Shards
    names: tuple[str, ...] = ()

    def fingerprint(self, of: str) -> str:
        """That of items, given what it is without columns. A held-out label has the number of the training split."""
        named = [(name, self.shards.labels(name)) for name in self.names]
        return digest("carried", of, named) if named else of

    def by(self, k: int, spans: Sequence[tuple[int, int]], around: tuple[int, int]) -> dict[str, np.ndarray]:
        """Of a piece of document k: its tokens [start, end) of every span, with so many special tokens before and
        behind each."""
        values = {name: self.shards.value(name, k) for name in self.names}
        return {name: _laid_out(v, spans, around) if v.ndim == 1 else v for name, v in values.items()}


def _laid_out(values: np.ndarray, spans: Sequence[tuple[int, int]], around: tuple[int, int]) -> np.ndarray:
    before, behind = (np.full(size, NONE, np.int32) for size in around)
    return np.concatenate([part for start, end in spans for part in (before, values[start:end], behind)])
