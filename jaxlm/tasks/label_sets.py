"""Any number of labels for every text. In: a run with `MultiLabel`. Out: a `Task`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.record import Record
from jaxlm.evaluate import label_sets
from jaxlm.infer import classify
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.multi_label import MultiLabel
from jaxlm.tasks.task import Item, Measured, Trained, Values, known


class LabelSets(Trained):
    """The labels above their thresholds, and the probability of each."""

    columns, metrics = ("predicted", "probabilities"), label_sets.NAMES

    def __init__(self, model: Predictor, data: Data, objective: MultiLabel) -> None:
        super().__init__(model, data, objective)
        self.does = f"any of {len(objective.labels)} labels"

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Probabilities, [K]."""
        return [1.0 / (1.0 + np.exp(-x_K)) for x_K in classify.outputs(self.model, self.objective, items)]

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """Those that are given."""
        return [self.objective.answer(shares_K.tolist()) for shares_K in asked]

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.label_sets` has it; the table says, too, which thresholds would have had the best F1 here."""
        right_NK, shares_NK = self._right(records), np.stack(asked)
        given_from = self.objective.given_from
        metrics = label_sets.metrics(right_NK, shares_NK, given_from)
        best = ", ".join(f"{one:.3f}" for one in label_sets.thresholds(right_NK, shares_NK))
        table = label_sets.table(self.objective.labels, right_NK, shares_NK, given_from)
        table += f'\nbest for F1 on these rows: --config.objective.thresholds="({best})"'
        return Measured(items=len(records), metrics=metrics, table=table)

    def _right(self, records: Sequence[Record]) -> np.ndarray:
        labels = self.objective.labels
        right_NK = np.zeros((len(records), len(labels)), bool)
        for n, record in enumerate(records):
            names: Any = record.values[0]
            right_NK[n, [known(name, labels, record.where) for name in names]] = True
        return right_NK
