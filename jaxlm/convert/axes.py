"""How an array of ours lies in a tensor of theirs. In: the letters and lengths of both. Out: reads and writes.

Guaranteed: a part of ours is read from the smallest block of theirs that holds it; nothing is computed, only moved.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from jaxlm.formats.source import Index

PART = "P"  # the letter along which parts of a fused tensor stand


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one array of ours lies in one of theirs: a row, with the lengths of its axes."""

    theirs: tuple[str, ...]  # the letters of every axis of theirs
    ours: str
    length: Mapping[str, int]  # of every letter; of a padded one, theirs
    shape: tuple[int, ...]  # ours, padding included
    part: int

    @property
    def their_shape(self) -> tuple[int, ...]:
        """The whole tensor of theirs."""
        return tuple(math.prod(self.length[k] for k in group) for group in self.theirs)

    def read(self, read: Callable[[Index], np.ndarray], index: Index) -> np.ndarray:
        """Ours[index], reading no more of theirs than the smallest block that holds it."""
        starts = [slice(*i.indices(n)) for i, n in zip(index, self.shape, strict=True)]
        ranges = {
            k: (i.start, min(i.stop, self.length[k])) for k, i in zip(self.ours, starts, strict=True)
        } | {PART: (self.part, self.part + 1)}
        wanted = tuple(i.stop - i.start for i in starts)
        had = tuple(max(0, ranges[k][1] - ranges[k][0]) for k in self.ours)
        if 0 in had and had != wanted:  # all of it is padding
            return np.zeros(wanted, read(tuple(slice(0, 0) for _ in self.theirs)).dtype)
        hulls = [_hull(group, self.length, ranges) for group in self.theirs]
        array = read(tuple(hull for hull, _ in hulls))
        inner = [entry for _, entries in hulls for entry in entries]
        array = array.reshape([size for size, _ in inner])[tuple(cut for _, cut in inner)]
        loose = "".join(self.theirs)
        order = self.ours + (PART if PART in loose else "")
        array = array.transpose([loose.index(k) for k in order]).reshape(had)
        if had == wanted:
            return np.ascontiguousarray(array)
        return np.pad(array, [(0, size - n) for size, n in zip(wanted, had, strict=True)])

    def write(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Puts ours (all of it) into its place in `theirs`, cast to its dtype; padding is left out."""
        loose = "".join(self.theirs)
        view = theirs.reshape([self.length[k] for k in loose], copy=False)
        view = view[tuple(self.part if k == PART else slice(None) for k in loose)]
        kept = loose.replace(PART, "")
        ours = ours[tuple(slice(self.length[k]) for k in self.ours)]
        view[...] = ours.transpose([self.ours.index(k) for k in kept])


def _hull(
    group: str, length: Mapping[str, int], ranges: Mapping[str, tuple[int, int]]
) -> tuple[slice, list[tuple[int, slice]]]:
    """The shortest slice of an axis made of `group`'s letters that holds all ranges; and, letter by letter, the length
    inside that slice and what of it is wanted."""
    start, width = 0, math.prod(length[k] for k in group)
    inner: list[tuple[int, slice]] = []
    contiguous = True
    for letter in group:
        low, high = ranges[letter]
        if not contiguous:
            inner.append((length[letter], slice(low, high)))
            continue
        stride = width // length[letter]
        start, width = start + low * stride, (high - low) * stride
        inner.append((high - low, slice(None)))
        contiguous = high - low == 1
    return slice(start, start + width), inner
