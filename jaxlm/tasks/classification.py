"""One label for every text, or for texts that belong together. In: a run with `Classification`. Out: a `Task`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.record import Record
from jaxlm.evaluate import classes
from jaxlm.infer import classify
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.classification import Classification
from jaxlm.tasks.task import Item, Measured, Trained, Values, known


class Classifying(Trained):
    """A label, its probability, and that of each; measured by accuracy, F1 and others."""

    metrics = ("accuracy", "macro_f1", "mcc", "nll", "brier", "ece")

    def __init__(self, model: Predictor, data: Data, objective: Classification) -> None:
        super().__init__(model, data, objective)
        self.does = f"one of {len(objective.labels)} labels"
        self.columns = tuple(objective.answer([1.0] * len(objective.labels)))

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Probabilities, [K]."""
        return classify.classify(self.model, self.objective, items)

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The likeliest."""
        return [self.objective.answer(shares_K.tolist()) for shares_K in asked]

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.classes` has it."""
        labels = self.objective.labels
        right_N = np.array([known(str(one.values[0]), labels, one.where) for one in records])
        shares_NK = np.stack(asked)
        table = classes.table(labels, right_N, shares_NK.argmax(axis=1))
        return Measured(items=len(records), metrics=classes.metrics(right_N, shares_NK), table=table)
