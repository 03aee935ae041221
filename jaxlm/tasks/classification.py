"""One label for every text, or for texts that belong together. In: a run with `Classification`. Out: a `Task`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError
from jaxlm.evaluate import classes
from jaxlm.infer import choose, classify
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.multiple_choice import MultipleChoice
from jaxlm.report import charts
from jaxlm.tasks import calibration
from jaxlm.tasks.task import Item, Measured, Task, Trained, Values, known


class Classifying(Trained):
    """A label, its probability, and that of each; measured by accuracy, F1 and others."""

    metrics = ("accuracy", "macro_f1", "mcc", "nll", "brier", "ece")

    @property
    def kind(self) -> type[Task]:
        """Whatever a label is read off: which of the same labels is the same question."""
        return Classifying

    def __init__(self, model: Predictor, data: Data, objective: Classification) -> None:
        super().__init__(model, data, objective)
        self.does = f"one of {len(objective.labels)} labels"
        self.columns = tuple(objective.answer([1.0] * len(objective.labels)))
        kept = calibration.of(model)
        self._temperature = (kept and kept.temperature) or 1.0
        self.note = str(kept) if self._temperature != 1.0 else ""

    def decide(self, *, temperature: float | None = None, threshold: float | None = None) -> None:
        """What logits are divided by."""
        if temperature is None:
            return super().decide(threshold=threshold)
        if not 0.0 < temperature < float("inf"):
            raise UserError(f"--temperature={temperature}: above 0; 1 leaves probabilities as they are.")
        self._temperature = temperature
        self.note = f"temperature {temperature:.4g}" if temperature != 1.0 else ""

    def undecide(self) -> None:
        """Without a temperature."""
        self._temperature, self.note = 1.0, ""

    def calibrated(self, records: Sequence[Record], asked: Sequence[Any]) -> dict[str, float]:
        """The temperature of the least negative log-likelihood."""
        return {"temperature": calibration.temperature(self.right(records), np.stack(asked))}

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Probabilities, [K], with the temperature."""
        return self.decided(self._said(items))

    def _said(self, items: Sequence[Item]) -> list[np.ndarray]:
        """Probabilities, [K], as the model was trained."""
        return classify.classify(self.model, self.objective, items)

    def decided(self, asked: Sequence[Any]) -> list[Any]:
        """With the temperature."""
        if self._temperature == 1.0:
            return list(asked)
        return [calibration.tempered(shares_K, self._temperature).astype(np.float32) for shares_K in asked]

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The likeliest."""
        return [self.objective.answer(shares_K.tolist()) for shares_K in asked]

    def votes(self, asked: Sequence[Any]) -> list[Any]:
        """1 for the likeliest label."""
        return list(np.eye(len(self.labels), dtype=np.float32)[np.argmax(asked, axis=1)])

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As `evaluate.classes` has it."""
        return measured(self.labels, self.right(records), np.stack(asked))

    def right(self, records: Sequence[Record]) -> np.ndarray:
        """[N]: the numbers of the right labels."""
        return np.array([known(str(one.values[0]), self.labels, one.where) for one in records])


def measured(labels: Sequence[str], right_N: np.ndarray, shares_NK: np.ndarray) -> Measured:
    """Probabilities of one label an item, against the numbers of the right ones."""
    found_N = shares_NK.argmax(axis=1)
    own_N = shares_NK[np.arange(len(right_N)), right_N]
    sure = classes.reliability(right_N == found_N, shares_NK.max(axis=1))
    return Measured(
        items=len(right_N),
        metrics=classes.metrics(right_N, shares_NK),
        table=classes.table(labels, right_N, found_N),
        faults=(-np.log(np.maximum(own_N, np.finfo(np.float32).tiny))).tolist(),
        drawings={
            "confusion": charts.confusion(labels, classes.confusion(right_N, found_N, len(labels))),
            "reliability": charts.reliability(*sure),
        },
    )


class Choosing(Classifying):
    """The same of the choices that go with a question."""

    def __init__(self, model: Predictor, data: Data, objective: MultipleChoice) -> None:
        super().__init__(model, data, objective)  # pyright: ignore[reportArgumentType]
        self.does = f"one of {objective.choices} choices"

    def _said(self, items: Sequence[Item]) -> list[np.ndarray]:
        """Probabilities, [choices]."""
        return choose.choose(self.model, self.objective, items)
