"""How two marked parts of a text are related. In: a run with `Relations`. Out: a `Task`.

A row names the two as its training data did, by their places; or its text has the markers already.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError
from jaxlm.evaluate import relations
from jaxlm.evaluate.classes import table
from jaxlm.infer import relate
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.relations import Relations
from jaxlm.tasks.classification import Classifying
from jaxlm.tasks.task import Item, Measured, Values


class Relating(Classifying):
    """A label, its probability, and that of each; measured by SemEval-2010's F1, and accuracy."""

    metrics = relations.NAMES

    def __init__(self, model: Predictor, data: Data, objective: Relations) -> None:
        super().__init__(model, data, objective)  # pyright: ignore[reportArgumentType]
        self.does = f"one of {len(objective.labels)} relations"
        self.marks = objective.marks(data.steps)
        self.markers = (self.marks.markers[0], self.marks.markers[2])

    def check(self, text: str) -> None:
        """UserError unless both are marked, once each."""
        for before, behind in zip(self.marks.markers[::2], self.marks.markers[1::2], strict=True):
            if text.count(before) != 1 or text.count(behind) != 1:
                raise UserError(
                    f"the text {text!r:.60} must have {before} and {behind} once, around one of the two that may be "
                    f"related ({' and '.join(self.objective.parts)}); a table may have the fields "
                    f'{" and ".join(self.objective.parts)} instead, each {{"start", "end"}}.'
                )

    def of_row(self, row: Mapping[str, Any], item: Item, where: str) -> Item:
        """Marked, if the row says where the two stand."""
        spans = tuple(one for one in self.data.columns if one.field in self.objective.parts)
        if not all(one.field in row for one in spans):
            return item
        return self.item(readers.of(dict(row), Wanted(self.fields, spans), where))

    def wanted(self) -> Wanted:
        """The text, the label, and the spans."""
        columns = {one.field: one for one in self.data.columns}
        return Wanted(self.fields, tuple(columns[name] for name in self.objective.carried))

    def item(self, record: Record) -> Item:
        """The text with its markers."""
        return self.marks.apply(record).texts

    def _said(self, items: Sequence[Item]) -> list[np.ndarray]:
        """Probabilities, [K]."""
        return relate.relate(self.model, self.objective, [text for (text,) in items], self.markers)

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.relations` has it."""
        labels, right_N = self.labels, self.right(records)
        found_N = np.stack(asked).argmax(axis=1)
        by_label = table(labels, right_N, found_N)
        return Measured(
            items=len(records), metrics=relations.metrics(labels, right_N, found_N), table=by_label
        )
