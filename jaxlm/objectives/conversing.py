"""What objectives over conversations share. In: shards of `Messages` or `Choice`. Out: conversations, their answers.

Of a row only the places that predict a token of an answer are targets, and only those reach the decoder: a row has
`targets` slots for them, and the plan puts no more into it (see data.rows.conversations).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxlm.batch import Kind, Row, Vocabulary
from jaxlm.data.corpus.columns import Choice, Messages
from jaxlm.data.rows import conversations
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.objectives.frame import Frame
from jaxlm.objectives.labelled import check_number
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.targets import TokenTargets

_SPARE = 1.25  # slots of a row, over those that its tokens ask for on average


@dataclasses.dataclass(kw_only=True)
class Conversing(Objective):
    """A decoder learns from the answers of conversations."""

    texts: ClassVar[int] = 1  # conversations of an item

    column: str  # of the corpus, in data.columns
    # Slots of a row for tokens of answers; 0: as many as the training data ask for, which the run then keeps
    targets: int
    items_per_row: int  # at most; 1 is one a row

    @property
    def trains(self) -> Kind:
        """A decoder."""
        return "decoder"

    @property
    def missing_targets(self) -> bool:
        """Until their number is known."""
        return not self.targets

    def measured(self, train: Sequence[Shards], length: int) -> tuple["Conversing", str]:
        """With slots for the longest answers, and for rows full of average ones; a line that says so."""
        found = [conversations.most_targets(one, self.column, self.texts, length) for one in train]
        most, share = max(most for most, _ in found), max(share for _, share in found)
        slots = min(-(-max(most, int(_SPARE * share * length), 1) // 8) * 8, length)
        line = (
            f"{slots} of {length} places of a row reach the decoder: {share:.1%} of the tokens are of answers, the "
            f"most of one conversation {most}"
        )
        return dataclasses.replace(self, targets=slots), line

    def validate(self, where: str) -> None:
        """UserError for numbers that make no rows."""
        check_number(self, where, "items_per_row", 2**16 - 1)
        if not 0 <= self.targets < 2**20:
            raise UserError(
                f"{where}.targets={self.targets}: allowed is 1 or more slots, or 0 for those of the training data."
            )

    def check_columns(self, columns: Sequence[Any]) -> None:
        """The column must be one of conversations, as many of an item as are asked for."""
        found = next((one for one in columns if one.field == self.column), None)
        kind = Messages if self.texts == 1 else Choice
        if not isinstance(found, kind):
            text = f"--config.data.text_field={self.column}"
            texts = "\"--config.data.text_fields=('chosen', 'rejected')\""
            raise UserError(
                f'config.objective.column="{self.column}": data.columns has no {kind.__name__} of that name. Fix: '
                f"\"--config.data.columns=({kind.__name__}(field='{self.column}'),)\" "
                f"{text if self.texts == 1 else texts}."
            )

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Whole conversations, cut at the end where a row is shorter."""
        return conversations.make_conversations(
            shards,
            vocabulary,
            column=self.column,
            texts=self.texts,
            length=asked.length,
            slots=self.slots(asked.length, asked.train),
            cache=asked.cache,
        )

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.items_per_row

    def slots(self, row_length: int, train: bool) -> int:
        """M, as configured, and no more than there are places."""
        return min(self.targets or row_length, row_length)

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """A prompt is written by the chat template, as what a user says."""
        return Frame(
            before=(), after=(), start=(), stops=(vocabulary.eos,) * (vocabulary.eos >= 0), chat=True
        )

    def answered(self, row: Row, positions_T: np.ndarray, *, train: bool) -> TokenTargets:
        """The tokens of answers, each at the place before it. `positions_T` restart in every conversation."""
        at = np.flatnonzero((row.of_tokens(self.column) > 0) & (positions_T > 0))
        slots = self.slots(len(row.tokens_T), train)
        if len(at) > slots:
            raise AssertionError(f"a row with {len(at)} targets in {slots} slots")
        ids, places = np.zeros(slots, np.int32), np.zeros(slots, np.int32)
        weights = np.zeros(slots, np.float32)
        ids[: len(at)], places[: len(at)], weights[: len(at)] = row.tokens_T[at], at - 1, 1.0
        return TokenTargets(ids_BM=ids, weights_BM=weights, places_BM=places)
