"""A number for every text or pair of texts. In: a run with `Regression` or `Similarity`. Out: a `Task`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.data.corpus.record import Record
from jaxlm.evaluate import correlation
from jaxlm.infer import classify, embed
from jaxlm.tasks.task import Item, Measured, Task, Trained, Values


class Scoring(Trained):
    """A number, read off the features of the item."""

    does = "a number"
    columns, metrics = ("predicted",), correlation.NAMES

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """The number, [1]."""
        return list(classify.outputs(self.model, self.objective, items))

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """As it is."""
        return [{"predicted": float(one[0])} for one in asked]

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.correlation` has it."""
        right_N = np.array([record.values[0] for record in records], np.float64)
        found_N = np.array([answer["predicted"] for answer in answers])
        return Measured(items=len(records), metrics=correlation.metrics(right_N, found_N, self.metrics))


class Comparing(Scoring):
    """The likeness of two texts, from the cosine of their vectors."""

    does = "how alike two texts are"

    @property
    def kind(self) -> type[Task]:
        """Of a run or a folder of others."""
        return Comparing

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """The cosine, [1]."""
        one, other = (self.vectors(side) for side in zip(*items, strict=True))
        return list((one * other).sum(axis=1, keepdims=True))

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, D], of length 1, as the model was trained."""
        how = {"pooling": self.objective.pooling, "row_length": self.objective.max_tokens + 2}
        return embed.embed(self.model, texts, **how)

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The score that the cosine stands for."""
        return [{"predicted": float(self.objective.number(float(one[0])))} for one in asked]

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """Of the cosines, as this model reads them: those of two models are then in one unit."""
        return super().measure(records, self.answer((), asked), asked)
