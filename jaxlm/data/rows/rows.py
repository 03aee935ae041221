"""Row i of a run, as a pure function. In: items, a plan, a seed. Out: `Rows`: row i for any i >= 0, in O(1).

Epoch e of a shuffled run is rows e * plan.rows to (e + 1) * plan.rows, every one another permutation of the plan's
rows: no buffer, no state. Row i depends on (items, plan, seed, i) only.
"""

import functools
from collections.abc import Sequence

import grain
import numpy as np

from jaxlm.batch import NONE, Row, Vocabulary
from jaxlm.data import draws
from jaxlm.data.rows.items import Items, Piece, Place
from jaxlm.data.rows.plan import Plan


class Rows:
    """Random access to packed rows. With shuffle=False, row i is the plan's row i, and there is one epoch."""

    def __init__(self, items: Items, plan: Plan, vocabulary: Vocabulary, *, seed: int, shuffle: bool) -> None:
        self.items, self.plan, self.vocabulary = items, plan, vocabulary
        self.seed, self.shuffle = draws.check_seed(seed), shuffle
        self.slots = plan.max_items  # C: for the items of a row

    def with_slots(self, slots: int) -> "Rows":
        """The same rows with room for more items, so that rows of several plans have one shape."""
        made = Rows(self.items, self.plan, self.vocabulary, seed=self.seed, shuffle=self.shuffle)
        made.slots = slots
        return made

    def __len__(self) -> int:
        """Rows per epoch."""
        return self.plan.rows

    @property
    def row_length(self) -> int:
        """Tokens per row, T."""
        return self.plan.row_length

    @property
    def efficiency(self) -> float:
        """Useful tokens per token of a row."""
        return self.plan.efficiency

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the rows, the seed included: equal fingerprints, equal streams."""
        return f"{self.plan.fingerprint}-{self.seed if self.shuffle else 'ordered'}"

    @functools.cached_property
    def _order(self) -> grain.MapDataset:
        # Grain adds the epoch to its seed, so plain neighbouring seeds would share epochs: hence a derived one.
        seed = draws.derived_seed(self.seed, "row order")
        return grain.MapDataset.range(self.plan.rows).seed(seed).shuffle().repeat()

    def plan_row(self, i: int) -> int:
        """Which row of the plan is row i of the run."""
        if not self.shuffle:
            if not 0 <= i < self.plan.rows:
                raise IndexError(f"row {i} of {self.plan.rows}")
            return i
        if i < 0:
            raise IndexError(f"row {i}")
        row = self._order[i]
        assert row is not None, "nothing is filtered"
        return int(row)

    def listed(self, i: int) -> dict[str, list[int]]:
        """The items of row i; "" is their source where there is one only."""
        return {"": [item for item, _, _ in self.plan.pieces(self.plan_row(i))]}

    def placed(self, i: int) -> tuple[str, list[list[Place]]]:
        """The source of row i, and of each of its items what of which documents it holds."""
        return "", [self.items.documents(place) for place in self.plan.pieces(self.plan_row(i))]

    def __getitem__(self, i: int) -> Row:
        return self.read([i])[0]

    def read(self, numbers: Sequence[int]) -> list[Row]:
        """Several rows, in the order asked, at a fraction of the cost of one by one."""
        places = [self.plan.pieces(self.plan_row(i)) for i in numbers]
        pieces = iter(self.items.pieces([place for row in places for place in row]))
        return [self._fill([next(pieces) for _ in row]) for row in places]

    def empty(self) -> Row:
        """A row of padding: completes the last batch of an evaluation."""
        return self._fill([])

    def _fill(self, pieces: list[Piece]) -> Row:
        length, slots = self.plan.row_length, self.slots
        tokens = np.full(length, self.vocabulary.pad, np.int32)
        segments, positions, texts = (np.zeros(length, np.int32) for _ in range(3))
        first = np.zeros(slots, np.int32)
        columns: dict[str, np.ndarray] = {}
        at = 0
        for c, piece in enumerate(pieces):
            span = slice(at, at + len(piece.tokens))
            tokens[span], texts[span] = piece.tokens, piece.texts
            segments[span], positions[span] = c + 1, np.arange(len(piece.tokens))
            first[c] = at
            for name, values in piece.columns.items():
                size, place = (length, span) if values.ndim == 1 else (slots, c)
                shape = (size, *values.shape[1:])
                columns.setdefault(name, np.full(shape, NONE, values.dtype))[place] = values
            at = span.stop
        if at > length:
            raise AssertionError(f"plan {self.plan.fingerprint}: a row of {at} tokens in {length}")
        return Row(
            tokens_T=tokens,
            segments_T=segments,
            positions_T=positions,
            texts_T=texts,
            first_C=first,
            columns=columns,
        )
