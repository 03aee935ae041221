"""Where named tensors come from: a file, several, or memory. In: a name, and which part of the tensor. Out: numpy.

Guaranteed: `shape` and `dtype` cost no reading; `read` holds no more than what it returns (plus what a format needs to
decode one tensor), so that whoever reads tensor by tensor never holds a whole checkpoint.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Index = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor that can be read."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Index], np.ndarray]  # () is all of it
    file: str = ""  # the file that holds it, for messages


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Tensors by name; `where` is what messages call them."""

    entries: Mapping[str, Entry]
    where: str = "The checkpoint"

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.entries[name].shape

    def dtype(self, name: str) -> np.dtype:
        """The dtype that a tensor is stored in."""
        return self.entries[name].dtype

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """A tensor, or the part of it that `index` says, in the dtype it is stored in."""
        return self.entries[name].read(index)


def of_arrays(tensors: "Mapping[str, np.ndarray] | Tensors", where: str = "The checkpoint") -> Tensors:
    """A source of arrays in memory; a source stays what it is."""
    if isinstance(tensors, Tensors):
        return tensors
    return Tensors({name: _held(array) for name, array in tensors.items()}, where)


def _held(array: Any) -> Entry:
    return Entry(tuple(array.shape), np.dtype(array.dtype), lambda index: np.asarray(array)[index])


def mapped(path: pathlib.Path, dtype: np.dtype, shape: tuple[int, ...], offset: int, shown: str) -> Entry:
    """A tensor that lies in a file as it is."""

    def read(index: Index) -> np.ndarray:
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)[index]
        # Mapped for this read only: pages of a mapping that stays count as memory of the process.
        return np.array(np.memmap(path, dtype, "r", offset, shape)[index])

    return Entry(shape, dtype, read, shown)


def transposed(entry: Entry) -> Entry:
    """The same tensor with its axes reversed."""

    def read(index: Index) -> np.ndarray:
        whole = index + tuple(slice(None) for _ in entry.shape[len(index) :])
        return entry.read(whole[::-1]).T

    return Entry(entry.shape[::-1], entry.dtype, read, entry.file)
