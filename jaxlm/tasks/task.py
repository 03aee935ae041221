"""The contract of a task. In: a model trained for it, items of a table. Out: answers; with right ones, metrics.

`ask` computes, `answer` decides: what several models say of an item is averaged between the two.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxlm.config import Data
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError, did_you_mean
from jaxlm.evaluate.classes import Interval
from jaxlm.infer.predict import Predictor

Values = dict[str, Any]
Item = tuple[str, ...]  # a text, or as many as `fields`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """How well a model does on a table."""

    items: int  # rows of it
    metrics: dict[str, Interval]
    table: str = ""  # what else is worth reading, such as a line for every label


class Task:
    """What a model does with a row. Guaranteed: nothing is drawn at random, and an item's answer does not depend on
    the items beside it."""

    does: str  # "one of 12 labels"
    columns: tuple[str, ...]  # names of the values that an answer adds to a row
    metrics: tuple[str, ...] = ()  # names of what `measure` gives
    fields: tuple[str, ...] = ("text",)  # what the texts of an item are called where the model was trained

    def check(self, text: str) -> None:
        """UserError for a text that it cannot take."""

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Of every item what the model says, a pytree of float arrays; () for a task without any."""
        return [()] * len(items)

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The values of every item."""
        raise NotImplementedError

    def wanted(self) -> Wanted:
        """What is read of a table with right answers. UserError for a task that has none."""
        raise UserError(
            f"this model {self.does}: there is no right answer to compare with. --data measures a model that was "
            "fine-tuned for a task; of another run: jaxlm evaluate --split=test measures its own objective."
        )

    def item(self, record: Record) -> Item:
        """What the model is asked of a row with a right answer."""
        return record.texts

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """The answers against what `wanted` read."""
        raise NotImplementedError


class Trained(Task):
    """A task that a model was fine-tuned for, with a column of right answers; `data`: how its texts are named."""

    def __init__(self, model: Predictor, data: Data, objective: Any) -> None:
        self.model, self.data, self.objective = model, data, objective
        self.fields = data.corpus_config().wanted.texts

    def wanted(self) -> Wanted:
        """The texts, and the objective's column."""
        columns = tuple(one for one in self.data.columns if one.field == self.objective.column)
        return Wanted(self.data.corpus_config().wanted.texts, columns)


def known(label: str, labels: Sequence[str], where: str) -> int:
    """The number of a label. UserError, with file and line, for one that the run does not know."""
    if label not in labels:
        raise UserError(
            f'{where}: the label "{label}" is none of the run\'s ({", ".join(labels)}).'
            f"{did_you_mean(label, labels)} Repair or remove the row."
        )
    return labels.index(label)
