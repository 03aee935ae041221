"""Best-fit-decreasing bin packing over a histogram. In: how many pieces have each size. Out: row compositions.

Exactly the rows that best-fit decreasing would make piece by piece, but all equal rows move together, so the cost
follows the number of different sizes and not of pieces (the idea of histogram packing: Krell et al., 2107.02027).
"""

import bisect

import numpy as np

from jaxlm.data.rows.items import CHUNK
from jaxlm.data.rows.plan import index_type

# A kind of row: the number of rows like it, and what each holds as ((size, copies), ...).
Kind = tuple[int, tuple[tuple[int, int], ...]]


class _Open:
    """Kinds of rows that still take pieces, found by the free tokens they have."""

    def __init__(self) -> None:
        self.free: list[int] = []  # sorted, without repeats
        self.kinds: dict[int, list[tuple[int, tuple, int]]] = {}  # free -> [(rows, composition, items)]

    def add(self, free: int, rows: int, composition: tuple, items: int) -> None:
        if free not in self.kinds:
            bisect.insort(self.free, free)
            self.kinds[free] = []
        self.kinds[free].append((rows, composition, items))

    def tightest(self, size: int) -> tuple[int, tuple[int, tuple, int]] | None:
        """Removes and returns a kind with the least free tokens that holds `size`."""
        at = bisect.bisect_left(self.free, size)
        if at == len(self.free):
            return None
        free = self.free[at]
        kind = self.kinds[free].pop()
        if not self.kinds[free]:
            del self.kinds[free], self.free[at]
        return free, kind


def row_kinds(counts: np.ndarray, row_length: int, max_items: int) -> list[Kind]:
    """Packs counts[s] pieces of every size s <= row_length into rows of at most `max_items` pieces."""
    open_, done = _Open(), []

    def keep(free: int, rows: int, composition: tuple, items: int) -> None:
        if rows and (items == max_items or free == 0):
            done.append((rows, composition))
        elif rows:
            open_.add(free, rows, composition, items)

    for size in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[size])
        while left:
            found = open_.tightest(size)
            free, (rows, composition, items) = found or (row_length, (left, (), 0))  # no room: open new rows
            # A row that got a piece is the tightest fit for the next of the same size, so it takes all it can hold.
            copies = min(free // size, max_items - items)
            full = min(rows, left // copies)
            last = min(left - full * copies, copies - 1) if full < rows else 0
            left -= full * copies + last
            keep(free - size * copies, full, (*composition, (size, copies)), items + copies)
            if last:
                keep(free - size * last, 1, (*composition, (size, last)), items + last)
            if found:
                keep(free, rows - full - (last > 0), composition, items)
    return done + [(rows, comp) for kinds in open_.kinds.values() for rows, comp, _ in kinds]


def assign(
    sizes: np.ndarray, row_length: int, max_items: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Places every piece: (pieces in row order, row offsets).

    Which of the equally long pieces goes where is random, so neighbours in the corpus do not share a row more often
    than others, and rows are in random order, so that the first of them are a fair sample.
    """
    kinds = row_kinds(_histogram(sizes, row_length), row_length, max_items)
    by_size, first = _sorted_by_size(sizes, rng)
    items = np.array([sum(copies for _, copies in composition) for _, composition in kinds], np.uint32)
    rows = np.array([rows for rows, _ in kinds], np.int64)
    place = rng.permutation(np.arange(rows.sum(), dtype=index_type(rows.sum())))
    row_offsets = np.zeros(len(place) + 1, index_type(len(sizes)))
    row_offsets[1:][place] = np.repeat(items, rows)
    np.cumsum(row_offsets, out=row_offsets, dtype=row_offsets.dtype)
    pieces = np.empty(len(sizes), index_type(len(sizes)))
    begin = 0
    for count, composition in kinds:
        at = row_offsets[:-1][place[begin : begin + count]].astype(np.int64)
        begin += count
        for size, copies in composition:
            taken = by_size[first[size] : first[size] + count * copies].reshape(copies, count)
            first[size] += count * copies
            for chosen in taken:
                pieces[at] = chosen
                at += 1
    return pieces, row_offsets


def _sorted_by_size(sizes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pieces in order of size, equal sizes in random order; and where each size begins."""
    shuffled = rng.permutation(np.arange(len(sizes), dtype=index_type(len(sizes))))
    order = np.argsort(sizes[shuffled], kind="stable")  # radix sort for 16-bit sizes: linear
    counts = _histogram(sizes, int(sizes.max(initial=0)))
    return shuffled[order], np.concatenate([[0], np.cumsum(counts)])


def _histogram(sizes: np.ndarray, largest: int) -> np.ndarray:
    counts = np.zeros(largest + 1, np.int64)
    for at in range(0, len(sizes), CHUNK):  # bincount makes an int64 copy of what it is given
        counts += np.bincount(sizes[at : at + CHUNK], minlength=largest + 1)
    return counts
