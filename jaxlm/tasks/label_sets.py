"""Any number of labels for every text. In: a run with `MultiLabel`. Out: a `Task`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError
from jaxlm.evaluate import label_sets
from jaxlm.infer import classify
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.multi_label import MultiLabel
from jaxlm.tasks import calibration
from jaxlm.tasks.task import Item, Measured, Trained, Values, known


class LabelSets(Trained):
    """The labels above their thresholds, and the probability of each."""

    columns, metrics = ("predicted", "probabilities"), label_sets.NAMES

    def __init__(self, model: Predictor, data: Data, objective: MultiLabel) -> None:
        super().__init__(model, data, objective)
        self.does = f"any of {len(objective.labels)} labels"
        self._trained = objective
        if (kept := calibration.of(model)) and kept.threshold is not None:
            self.decide(threshold=kept.threshold)
            self.note = str(kept)

    def decide(self, *, temperature: float | None = None, threshold: float | None = None) -> None:
        """From which probability on a label is given, of all labels."""
        if threshold is None:
            return super().decide(temperature=temperature)
        if not 0.0 <= threshold <= 1.0:
            raise UserError(f"--threshold={threshold}: a probability, 0 to 1.")
        self.objective = dataclasses.replace(self.objective, thresholds=(threshold,) * len(self.labels))
        self.note = f"threshold {threshold:.4g}"

    def undecide(self) -> None:
        """With the objective's thresholds."""
        self.objective, self.note = self._trained, ""

    def calibrated(self, records: Sequence[Record], asked: Sequence[Any]) -> dict[str, float]:
        """The threshold of the best micro F1."""
        return {"threshold": label_sets.threshold(self._right(records), np.stack(asked))}

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
