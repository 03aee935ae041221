"""Rows of several corpora in one stream. In: the rows of each, their weights. Out: `Mixed`: row i for any i, in O(1).

Which source row i is of, and which of its rows, follows from i alone: every block of `BLOCK` rows holds each source in
proportion to its weight, evenly spread. A source whose epochs are used up makes room for the others, from a row on that
is known beforehand. So a mixture is, like any `Rows`, the same on any number of hosts and after any restart.
"""

import bisect
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from jaxlm.batch import Row
from jaxlm.data.rows import items
from jaxlm.data.rows.rows import Rows
from jaxlm.errors import UserError

BLOCK = 1 << 14  # rows: weights are kept to 1/16384
VERSION = 1  # part of the fingerprint: raise it when the same weights give another order


@dataclasses.dataclass(frozen=True)
class Phase:
    """From row `start` on, until the next phase: the same block again and again."""

    start: int
    before_S: np.ndarray  # rows of each source that earlier phases used
    counts_S: np.ndarray  # rows of each source in a block
    source_P: np.ndarray  # the source of every place of the block
    nth_P: np.ndarray  # and how many of its rows stand before it in the block

    def at(self, i: int) -> tuple[int, int]:
        """Source, and number of its row, of row i of the mixture."""
        block, place = divmod(i - self.start, len(self.source_P))
        source = int(self.source_P[place])
        return source, int(self.before_S[source]) + block * int(self.counts_S[source]) + int(
            self.nth_P[place]
        )

    def end(self, source: int, rows: int) -> int:
        """The row of the mixture behind the last of `rows` rows of a source."""
        left = rows - int(self.before_S[source]) - 1
        block, nth = divmod(left, int(self.counts_S[source]))
        place = int(np.flatnonzero(self.source_P == source)[nth])
        return self.start + block * len(self.source_P) + place + 1

    def used(self, end: int) -> np.ndarray:
        """Rows of each source before row `end` of the mixture."""
        blocks, places = divmod(end - self.start, len(self.source_P))
        some_S = np.bincount(self.source_P[:places], minlength=len(self.counts_S))
        return self.before_S + blocks * self.counts_S + some_S


def schedule(weights: Sequence[float], limits: Sequence[int]) -> list[Phase]:
    """The phases of a mixture. `limits`: the rows that each source gives at most; 0: as many as are asked for."""
    weights_S, limits_S = np.asarray(weights, np.float64), np.asarray(limits, np.int64)
    assert (weights_S > 0).all() and (limits_S == 0).any(), "some source never ends"
    phases, start, before_S = [], 0, np.zeros(len(weights_S), np.int64)
    while True:
        open_S = (limits_S == 0) | (before_S < limits_S)
        phase = _phase(np.where(open_S, weights_S, 0.0), start, before_S)
        phases.append(phase)
        ends = [phase.end(int(s), int(limits_S[s])) for s in np.flatnonzero(open_S & (limits_S > 0))]
        if not ends:
            return phases
        start = min(ends)
        before_S = phase.used(start)


def _phase(weights_S: np.ndarray, start: int, before_S: np.ndarray) -> Phase:
    """A block: of a source with n rows, the k-th stands at (k + 1/2) / n of it."""
    exact_S = weights_S / weights_S.sum() * BLOCK
    counts_S = np.where(weights_S > 0, np.maximum(np.floor(exact_S), 1), 0).astype(np.int64)
    short = BLOCK - int(counts_S.sum())  # negative only when many sources were raised to one row
    counts_S[np.argsort(counts_S - exact_S, kind="stable")[: max(short, 0)]] += 1
    source = np.repeat(np.arange(len(counts_S)), counts_S)
    nth = np.concatenate([np.arange(n) for n in counts_S])
    order = np.argsort((nth + 0.5) / counts_S[source], kind="stable")
    return Phase(start, before_S, counts_S, source[order].astype(np.int32), nth[order].astype(np.int32))


class Mixed:
    """The rows of several sources as one stream; training only, so it never ends."""

    def __init__(
        self, sources: dict[str, Rows], weights: Sequence[float], epochs: Sequence[float], *, seed: int
    ) -> None:
        """`epochs` of each source at most; 0: no limit. UserError when every source has one."""
        self.names, self.seed, self.vocabulary = tuple(sources), seed, next(iter(sources.values())).vocabulary
        slots = max(rows.slots for rows in sources.values())
        self.sources = [rows.with_slots(slots) for rows in sources.values()]
        limits = [math.ceil(e * len(rows)) for e, rows in zip(epochs, self.sources, strict=True)]
        if all(limits):
            raise UserError(
                f"every source of the mixture ({', '.join(self.names)}) has a limit of epochs, so that it ends. Fix: "
                "--config.data.mixture.shares[0].epochs=0.0, or another."
            )
        self.phases = schedule(weights, limits)
        self._starts = [phase.start for phase in self.phases]

    def __len__(self) -> int:
        """Rows of an epoch of all sources together, however often each is read meanwhile."""
        return sum(map(len, self.sources))

    @property
    def efficiency(self) -> float:
        """Useful tokens per token of a row, in the first block."""
        counts_S = self.phases[0].counts_S
        return float(np.average([rows.efficiency for rows in self.sources], weights=counts_S))

    @property
    def row_length(self) -> int:
        """Tokens per row, T."""
        return self.sources[0].row_length

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the rows."""
        order = [(p.start, p.counts_S.tolist()) for p in self.phases]
        return items.digest(
            "mixture", VERSION, BLOCK, self.names, [r.fingerprint for r in self.sources], order
        )

    def place(self, i: int) -> tuple[int, int]:
        """Source, and number of its row, of row i."""
        return self.phases[bisect.bisect_right(self._starts, i) - 1].at(i)

    def used(self, end: int) -> list[int]:
        """Rows of each source before row `end`."""
        return self.phases[bisect.bisect_right(self._starts, end) - 1].used(end).tolist()

    def listed(self, i: int) -> dict[str, list[int]]:
        """The items of row i, by source."""
        source, k = self.place(i)
        return {self.names[source]: self.sources[source].listed(k)[""]}

    def placed(self, i: int) -> tuple[str, list[list[items.Place]]]:
        """The source of row i, and of each of its items what of which documents it holds."""
        source, k = self.place(i)
        return self.names[source], self.sources[source].placed(k)[1]

    def read(self, numbers: Sequence[int]) -> list[Row]:
        """Several rows, in the order asked; those of one source are read together."""
        places = [self.place(i) for i in numbers]
        found: dict[int, Row] = {}
        for source, rows in enumerate(self.sources):
            mine = [n for n, (s, _) in enumerate(places) if s == source]
            found |= zip(mine, rows.read([places[n][1] for n in mine]), strict=True)
        return [found[n] for n in range(len(places))]

    def empty(self) -> Row:
        """A row of padding."""
        return self.sources[0].empty()


AnyRows = Rows | Mixed


class Joined:
    """The shards of several sources one after another, for what reads all training documents."""

    def __init__(self, parts: Sequence[items.Shards]) -> None:
        self.parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.lengths = np.concatenate([part.lengths for part in parts])
        self.fingerprint = items.digest("joined", [part.fingerprint for part in parts])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitems__(self, ks: Sequence[int]) -> list[np.ndarray]:
        """Tokens of several documents, in the order asked."""
        which = np.searchsorted(self._ends, np.asarray(ks, np.int64), side="right")
        found: dict[int, np.ndarray] = {}
        for number, part in enumerate(self.parts):
            mine = np.flatnonzero(which == number).tolist()
            first = int(self._ends[number]) - len(part)
            found |= zip(mine, part.__getitems__([ks[n] - first for n in mine]), strict=True)
        return [found[n] for n in range(len(ks))]

    def sentence_lengths(self, k: int) -> np.ndarray:
        """Of document k."""
        part, k = self._place(k)
        return part.sentence_lengths(k)

    def array(self, name: str) -> np.ndarray:
        """Of all documents."""
        return np.concatenate([part.array(name) for part in self.parts])

    def value(self, name: str, k: int) -> np.ndarray:
        """Of document k."""
        part, k = self._place(k)
        return part.value(name, k)

    def _place(self, k: int) -> tuple[items.Shards, int]:
        number = int(np.searchsorted(self._ends, k, side="right"))
        return self.parts[number], k - int(self._ends[number]) + len(self.parts[number])

    def labels(self, name: str) -> tuple[str, ...]:
        """The names of a label column. UserError unless they are the same in all parts."""
        found = [part.labels(name) for part in self.parts]
        if len(set(found)) > 1:
            raise UserError(
                f'the corpora of the mixture have different labels in the column "{name}": '
                f"{' and '.join(map(str, dict.fromkeys(found)))}. Fix: corpora with the same ones."
            )
        return found[0]


def joined(parts: Sequence[items.Shards]) -> items.Shards:
    """The shards of all; one alone as it is."""
    return parts[0] if len(parts) == 1 else Joined(parts)
