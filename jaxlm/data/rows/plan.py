"""A packing plan on disk: which pieces stand in which row. In: arrays. Out: `Plan`, memory-mapped, picklable.

Row r holds pieces row_offsets[r] to row_offsets[r + 1]; piece p is tokens [start[p], start[p] + length[p]) of item[p].
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.data.rows.items import Place

ARRAYS = ("row_offsets", "item", "start", "length")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Rows as lists of pieces. Every token of every item is in exactly one piece."""

    row_offsets: np.ndarray  # [rows + 1]
    item: np.ndarray  # [pieces]
    start: np.ndarray  # [pieces]
    length: np.ndarray  # [pieces], without special tokens
    row_length: int  # tokens per row, T
    max_items: int  # no row has more pieces, C
    efficiency: float  # tokens in rows, special tokens included, over rows * row_length
    fingerprint: str
    directory: str = ""  # where the arrays are mapped from; empty: in memory

    @property
    def rows(self) -> int:
        """Rows per epoch."""
        return len(self.row_offsets) - 1

    def pieces(self, row: int) -> list[Place]:
        """(item, start, length) of every piece of a row, in order."""
        span = slice(int(self.row_offsets[row]), int(self.row_offsets[row + 1]))
        columns = (self.item[span].tolist(), self.start[span].tolist(), self.length[span].tolist())
        return list(zip(*columns, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map would travel to a reader process as a copy of the whole array; its folder is enough.
        if self.directory:
            return open_plan, (self.directory,)
        return _rebuild, ({f.name: getattr(self, f.name) for f in dataclasses.fields(self)},)


def _rebuild(fields: Mapping[str, Any]) -> Plan:
    return Plan(**fields)


def index_type(largest: int) -> type[np.integer]:
    """The narrowest type for indices: at 10^8 documents every 4 bytes are 0.4 GB."""
    return np.uint32 if largest < 2**32 else np.int64


def write_plan(plan: Plan, folder: pathlib.Path) -> None:
    """Writes the files of a plan into a folder."""
    numbers = {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan) if f.name not in ARRAYS}
    del numbers["directory"]
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(plan, name))
    (folder / "plan.json").write_text(json.dumps(numbers, indent=1) + "\n")


def open_plan(directory: str | os.PathLike[str]) -> Plan:
    """Memory-maps a plan that `write_plan` wrote."""
    folder = pathlib.Path(directory)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    return Plan(**arrays, **json.loads((folder / "plan.json").read_text()), directory=str(folder))
