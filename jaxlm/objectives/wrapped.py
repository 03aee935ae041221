"""An objective around another one. In: an objective. Out: the same, until a subclass says otherwise.

What compares two passes (R-Drop), adds a teacher or disturbs the input derives from `Wrapped` and writes only what it
changes, mostly `loss`: everything else is handed on to `of`. A `loss` of its own adds the terms of the model
(`Predictions.terms`), as that of `Objective` does.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.batch import Array, Batch, Loss, Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.models.heads import Head
from jaxlm.objectives.frame import Frame
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Predictions


@dataclasses.dataclass(kw_only=True)
class Wrapped(Objective):
    """Hands everything on; the docstrings are those of `Objective`."""

    of: Any  # the objective inside

    whole_batch = property(lambda self: self.of.whole_batch)  # pyright: ignore[reportAssignmentType]
    token_term = property(lambda self: self.of.token_term)  # pyright: ignore[reportAssignmentType]
    trains = property(lambda self: self.of.trains)  # pyright: ignore[reportIncompatibleMethodOverride]
    needs_sentences = property(lambda self: self.of.needs_sentences)  # pyright: ignore[reportIncompatibleMethodOverride]

    missing_labels = property(lambda self: self.of.missing_labels)  # pyright: ignore[reportIncompatibleMethodOverride]
    class_names = property(lambda self: self.of.class_names)  # pyright: ignore[reportIncompatibleMethodOverride]
    fewest_labels = property(lambda self: self.of.fewest_labels)  # pyright: ignore[reportAssignmentType]

    def told(self, labels: tuple[str, ...]) -> Objective:
        return dataclasses.replace(self, of=self.of.told(labels))

    def check_columns(self, columns: Sequence[Any]) -> None:
        self.of.check_columns(columns)

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        return self.of.items(shards, vocabulary, asked)

    def max_items(self, length: int) -> int:
        return self.of.max_items(length)

    def plan_length(self, row_length: int) -> int:
        return self.of.plan_length(row_length)

    def slots(self, row_length: int, train: bool) -> int:
        return self.of.slots(row_length, train)

    def check(self, vocabulary: Vocabulary) -> None:
        self.of.check(vocabulary)

    def heads(self, config: Any) -> Mapping[str, Head]:
        return self.of.heads(config)

    def check_model(self, model: Any, where: str) -> None:
        self.of.check_model(model, where)

    def check_batch(self, batch_size: int, accumulate: int, where: str) -> None:
        self.of.check_batch(batch_size, accumulate, where)

    def fit(self, shards: Shards, vocabulary: Vocabulary, cache: Cache | None) -> Objective:
        return dataclasses.replace(self, of=self.of.fit(shards, vocabulary, cache))

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        return self.of.prepare(row, vocabulary, rng, train=train)

    def weights(self, batch: Batch) -> dict[str, Array]:
        return self.of.weights(batch)

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        return self.of.predict(model, batch, key)

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        return self.of.score(predictions, batch)

    def frame(self, vocabulary: Vocabulary) -> Frame:
        return self.of.frame(vocabulary)
