"""Items that are rows of a table: what pairs and texts share. In: blocks of table rows. Out: a table kept on disk.

The table says where the tokens of an item are; it is made once from lengths alone, memory-mapped, and found again by
its fingerprint. Items of a table stay whole.
"""

import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.carried import Carried
from jaxlm.data.rows.items import CHUNK, Shards


class TableItems:
    """One item per row of `table`; a subclass says how many tokens each has and builds the pieces."""

    splittable = False

    def __init__(
        self,
        shards: Shards,
        vocabulary: Vocabulary,
        table: np.ndarray,
        fingerprint: str,
        path: str = "",
        columns: tuple[str, ...] = (),
    ) -> None:
        self.shards, self.vocabulary, self.table, self.path = shards, vocabulary, table, path
        self.table_fingerprint, self.carried = fingerprint, Carried(shards, columns)
        self.cls, self.sep = vocabulary.cls, vocabulary.sep
        self._lengths: np.ndarray | None = None

    @classmethod
    def find_or_make(
        cls,
        shards: Shards,
        vocabulary: Vocabulary,
        fingerprint: str,
        cache: Cache | None,
        blocks: Callable[[], Iterator[np.ndarray]],
        columns: tuple[str, ...] = (),
    ) -> Self:
        """The items whose table is found under `cache` or made from `blocks`; with None it stays in memory."""
        if cache is None:
            return cls(shards, vocabulary, np.concatenate(list(blocks())), fingerprint, "", columns)
        name = cls.__name__.lower()
        folder = cache.find(
            f"plans/{name}-{fingerprint[:24]}",
            fingerprint,
            lambda folder: _append_blocks(folder / f"{name}.npy", blocks()),
        )
        return _reopen(cls, shards, vocabulary, None, fingerprint, str(folder / f"{name}.npy"), columns)

    @property
    def fingerprint(self) -> str:
        """Of the table, and of the columns."""
        return self.carried.fingerprint(self.table_fingerprint)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of every item, without special tokens."""
        if self._lengths is None:  # only the plan needs them, so reader processes do without
            self._lengths = np.empty(len(self.table), np.uint32)
            for at in range(0, len(self.table), CHUNK):
                self._lengths[at : at + CHUNK] = self.tokens(self.table[at : at + CHUNK])
        return self._lengths

    def tokens(self, block: np.ndarray) -> np.ndarray:
        """Tokens of the items of some rows of the table."""
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map would travel to a reader process as a copy of the whole table; its path is enough.
        table = None if self.path else self.table
        rest = (self.table_fingerprint, self.path, self.carried.names)
        return _reopen, (type(self), self.shards, self.vocabulary, table, *rest)


def _reopen(
    kind: Any, shards: Any, vocabulary: Vocabulary, table: Any, fingerprint: str, path: str, columns: Any
) -> Any:
    table = np.load(path, mmap_mode="r") if path else table
    return kind(shards, vocabulary, table, fingerprint, path, columns)


def _append_blocks(path: pathlib.Path, blocks: Iterator[np.ndarray]) -> None:
    """Writes blocks one after another as one .npy file, without holding them all: their number is not known before."""
    first = next(blocks)
    count = 0
    with path.open("wb") as file:
        _write_header(file, first.dtype, 0)
        begin = file.tell()
        for block in itertools.chain([first], blocks):
            file.write(block.data)
            count += len(block)
        file.seek(0)
        _write_header(file, first.dtype, count)
        if file.tell() != begin:  # numpy pads headers so that a growing first axis keeps their size
            raise AssertionError("the .npy header changed its size")


def _write_header(file: Any, dtype: np.dtype, count: int) -> None:
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        file, {"descr": description, "fortran_order": False, "shape": (count,)}
    )
