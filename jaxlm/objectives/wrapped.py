"""An objective around another one. In: an objective. Out: the same, until a subclass says otherwise.

What compares two passes (R-Drop), adds a teacher or disturbs the input derives from `Wrapped` and writes only what it
changes, mostly `loss`: everything else is handed on to `of`. A `loss` of its own adds the terms of the model
(`Predictions.terms`), as that of `Objective` does; who changes `predict` or `score` says so in `loss`, too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxlm.batch import Array, Batch, Loss, Pair, Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.frame import Frame
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Predictions


@dataclasses.dataclass(kw_only=True)
class Wrapped(Objective):
    """Hands everything on; the docstrings are those of `Objective`."""

    around: ClassVar[str] = "of"  # on a command line it stands around what is there

    of: Any  # the objective inside

    whole_batch = property(lambda self: self.of.whole_batch)  # pyright: ignore[reportAssignmentType]
    one_pass = property(lambda self: self.of.one_pass)  # pyright: ignore[reportAssignmentType]
    needs_average = property(lambda self: self.of.needs_average)  # pyright: ignore[reportAssignmentType]
    needs_teacher = property(lambda self: self.of.needs_teacher)  # pyright: ignore[reportAssignmentType]
    token_term = property(lambda self: self.of.token_term)  # pyright: ignore[reportAssignmentType]
    trains = property(lambda self: self.of.trains)  # pyright: ignore[reportIncompatibleMethodOverride]
    takes = property(lambda self: self.of.takes)  # pyright: ignore[reportIncompatibleMethodOverride]
    needs_sentences = property(lambda self: self.of.needs_sentences)  # pyright: ignore[reportIncompatibleMethodOverride]

    missing_labels = property(lambda self: self.of.missing_labels)  # pyright: ignore[reportIncompatibleMethodOverride]
    inner = property(lambda self: self.of.inner)  # pyright: ignore[reportIncompatibleMethodOverride]
    vectors = property(lambda self: self.of.vectors)  # pyright: ignore[reportIncompatibleMethodOverride]
    problem_type = property(lambda self: self.of.problem_type)  # pyright: ignore[reportAssignmentType]
    class_names = property(lambda self: self.of.class_names)  # pyright: ignore[reportIncompatibleMethodOverride]
    fewest_labels = property(lambda self: self.of.fewest_labels)  # pyright: ignore[reportAssignmentType]

    def told(self, labels: tuple[str, ...]) -> Objective:
        return dataclasses.replace(self, of=self.of.told(labels))

    def counted(self, counts: Mapping[str, int]) -> Objective:
        return dataclasses.replace(self, of=self.of.counted(counts))

    missing_targets = property(lambda self: self.of.missing_targets)  # pyright: ignore[reportIncompatibleMethodOverride]

    def measured(self, train: Sequence[Shards], length: int) -> tuple[Objective, str]:
        made, line = self.of.measured(train, length)
        return dataclasses.replace(self, of=made), line

    def check_view(self, view: Sequence[Any], where: str) -> None:
        self.of.check_view(view, where)

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

    def teacher_heads(self, config: Any) -> Mapping[str, Head]:
        return self.of.teacher_heads(config)

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

    def apart(self, one: Predictions, other: Predictions) -> dict[str, Pair]:
        return self.of.apart(one, other)

    def towards(
        self, said: Predictions, taught: Predictions, batch: Batch, apart: Divergence
    ) -> dict[str, Pair]:
        return self.of.towards(said, taught, batch, apart)

    def right_classes(self, batch: Batch) -> dict[str, tuple[Array, Array]]:
        return self.of.right_classes(batch)

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        return self.of.loss(model, batch, key)

    def frame(self, vocabulary: Vocabulary) -> Frame:
        return self.of.frame(vocabulary)


def check_one_pass(wrapper: Any, where: str) -> None:
    """UserError unless what is inside is asked once: the order of wrappers matters then."""
    if not wrapper.of.one_pass:
        name, inner = type(wrapper).__name__, type(wrapper.of).__name__
        raise UserError(
            f"{where}: {name} asks what is inside twice, and {inner} does so itself. Fix: {inner} around {name}, or "
            "one of the two."
        )


def refuse_pairs(wrapper: Any, model: Any, where: str) -> None:
    """UserError for a generator and a discriminator, which embed each by itself."""
    if model.kind == "pair":
        raise UserError(
            f"{where}: {type(wrapper).__name__} changes what one model embeds, and a {type(model).__name__} is two. "
            "Fix: the objective inside alone."
        )


def check_at_least(config: Any, where: str, low: float, *names: str) -> None:
    """UserError unless every field is a number from `low` on."""
    for name in names:
        if not low <= getattr(config, name) < float("inf"):
            raise UserError(f"{where}.{name}={getattr(config, name)}: allowed is {low:g} or more.")
