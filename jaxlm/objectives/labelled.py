"""What objectives over labelled texts share. In: a column of the corpus. Out: whole texts, cut, that carry it.

The labels are numbered as the training split has them, sorted; a run is told them before its heads are made.
"""

import dataclasses
from typing import Any

from jaxlm.batch import Vocabulary
from jaxlm.data.rows import texts
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.objectives.objective import Objective


@dataclasses.dataclass(kw_only=True)
class Labelled(Objective):
    """Texts of a corpus with a column of labels."""

    column: str  # of the corpus, in data.columns
    labels: tuple[str, ...]  # sorted; (): those of the training split, which the run then keeps
    max_tokens: (
        int  # of an item, without special tokens; what is cut off is at the end (of two texts: of the longer)
    )
    items_per_row: int  # at most; 1 is one a row

    @property
    def missing_labels(self) -> str:
        """The column, until its names are known."""
        return "" if self.labels else self.column

    def validate(self, where: str) -> None:
        """UserError for numbers that make no rows, a label twice, or too few."""
        for name in ("max_tokens", "items_per_row"):
            check_number(self, where, name, 2**16 - 1)
        if self.labels and (
            len(set(self.labels)) != len(self.labels) or len(self.labels) < self.fewest_labels
        ):
            raise UserError(
                f"{where}.labels={self.labels}: {'two or more ' * (self.fewest_labels > 1)}different names, or () for "
                "those of the training data."
            )

    def check(self, vocabulary: Vocabulary) -> None:
        """Texts stand between [CLS] and [SEP]."""
        vocabulary.require(type(self).__name__, "cls", "sep")

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.items_per_row

    def whole(self, shards: Shards, vocabulary: Vocabulary, asked: Asked, special: int, **how: Any) -> Items:
        """The items, each with the column and `special` tokens around its texts; `how`: as `texts.make_texts`.

        UserError for other labels than those of the shards, and for rows that are too short.
        """
        if (found := shards.labels(self.column)) != self.labels:
            raise UserError(
                f'{type(self).__name__}.labels={self.labels}, but column "{self.column}" of the training data has '
                f"{found}. Fix: --config.objective.labels=() with a new --workdir."
            )
        if self.max_tokens + special > asked.length:
            raise UserError(
                f"{type(self).__name__}.max_tokens={self.max_tokens} and {special} special tokens do not fit a row of "
                f"{asked.length}. Fix: --config.objective.max_tokens={asked.length - special}, or longer rows."
            )
        return texts.make_texts(
            shards, vocabulary, max_tokens=self.max_tokens, cache=asked.cache, columns=(self.column,), **how
        )


def check_number(config: Any, where: str, name: str, most: int) -> None:
    """UserError unless the field is 1 to `most`."""
    if not 1 <= getattr(config, name) <= most:
        raise UserError(f"{where}.{name}={getattr(config, name)}: allowed is 1 to {most}.")
