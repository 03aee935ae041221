"""Another loss for classes: smoothed, focal, weighted, adjusted. In: an objective whose outputs have a right class.

objective = ClassLoss(of=objective, gamma=2.0, label_smoothing=0.0, class_weights="inverse", prior=0.0, counts=())
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Loss, Pair
from jaxlm.errors import UserError
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.wrapped import Wrapped, check_at_least, check_one_pass


@dataclasses.dataclass(kw_only=True)
class ClassLoss(Wrapped):
    """Of classes and of tags alike. The measures stay the plain ones: nats and accuracy of what the model says.

    A slot of class y has w_y ((1 - e) (1 - p_y)^gamma (-log p_y)) + e / K sum_c w_c (-log p_c), and weighs w_y: with
    gamma 0 as torch's CrossEntropyLoss has it. Focal: Lin et al., 1708.02002 (gamma 2); p is no probability then.
    Adjusted: Menon et al., 2007.07314: p = softmax(logits + prior * log share of the class), in training alone.
    """

    label_smoothing: float  # e, spread evenly over the classes; published: 0.1; 0: none
    gamma: float  # how much less a slot counts that is right already; published: 2; 0: as much
    # one for each class in the model's order; "inverse": N / (K n) for a label with n of N examples; "even": 1
    class_weights: Literal["even", "inverse"] | tuple[float, ...]
    prior: float  # of logit adjustment; published: 1; 0: none
    counts: tuple[
        int, ...
    ]  # examples of every label; (): those of the training split, which the run then keeps

    def validate(self, where: str) -> None:
        """UserError for numbers that cannot be, or what is no single pass."""
        check_at_least(self, where, 0.0, "label_smoothing", "gamma", "prior")
        if self.label_smoothing >= 1.0:
            raise UserError(f"{where}.label_smoothing={self.label_smoothing}: allowed is below 1.")
        weights = self.class_weights
        if weights not in ("even", "inverse") and not (
            isinstance(weights, tuple) and min(weights, default=0) > 0
        ):
            raise UserError(
                f'{where}.class_weights={weights!r}: allowed are "even", "inverse" and a number above 0 for each class.'
            )
        check_one_pass(self, where)

    @property
    def missing_labels(self) -> str:
        """The column, too, while its labels must be counted."""
        counting = self.class_weights == "inverse" or self.prior > 0
        return self.of.missing_labels or (self.of.column if counting and not self.counts else "")

    def told(self, labels: tuple[str, ...]) -> Objective:
        """Unless the labels are given."""
        return super().told(labels) if self.of.missing_labels else self

    def counted(self, counts: Mapping[str, int]) -> Objective:
        """UserError where nothing was counted."""
        found = tuple(counts.get(label, 0) for label in self.of.labels)
        if not self.counts and not all(found):
            raise UserError(
                f"ClassLoss: the labels were not counted, or one is not in the training split: {dict(counts)}. Fix: "
                "counts=(...) in ClassLoss, a number for each label."
            )
        return dataclasses.replace(self, of=self.of.counted(counts), counts=self.counts or found)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Of every slot that of its class."""
        inner = dict(self.of.weights(batch))
        for name, (labels, weights) in self.of.right_classes(batch).items():
            if isinstance(self.class_weights, tuple) or self.class_weights == "inverse":
                inner[name] = (self._weight_of(labels) * weights).sum()
        return inner

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """The terms of classes are these; all else is as inside."""
        plain = self.of.score(predictions, batch)
        asked = self.of.right_classes(batch)
        if not asked:
            raise UserError(f"ClassLoss around {type(self.of).__name__}: nothing in it has one right class.")
        terms = {name: self._term(predictions[name](), *slots) for name, slots in asked.items()}
        return Loss({**plain.terms, **terms}, plain.measures)

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """The score of one pass."""
        return Objective.loss(self, model, batch, key)

    def _term(self, logits: Array, labels: Array, weights: Array) -> Pair:
        logits, classes = logits.astype(jnp.float32), logits.shape[-1]
        if self.prior:
            counts_K = jnp.array(self._of_classes(self.counts, classes), jnp.float32)
            logits = logits + self.prior * jnp.log(counts_K / counts_K.sum())
        log_p = jax.nn.log_softmax(logits)
        nats = -jnp.take_along_axis(log_p, labels[..., None], axis=-1, mode="clip")[..., 0]
        if self.class_weights != "even":
            self._of_classes(self.counts if self.class_weights == "inverse" else self.class_weights, classes)
        weight_K, weight = self._weight_of(jnp.arange(classes)), self._weight_of(labels)
        hard = weight * nats * (jnp.maximum(1.0 - jnp.exp(-nats), 1e-7) ** self.gamma if self.gamma else 1.0)
        smooth = -(weight_K * log_p).sum(-1) / classes
        slot = (1.0 - self.label_smoothing) * hard + self.label_smoothing * smooth
        return jnp.where(weights > 0, slot * weights, 0.0).sum(), (weight * weights).sum()

    def _weight_of(self, labels: Array) -> Array:
        if self.class_weights == "even":
            return jnp.ones(labels.shape, jnp.float32)
        given = self.class_weights
        if given == "inverse":
            counts = np.array(self.counts, np.float64)
            given = tuple(counts.sum() / (len(counts) * counts))
        return jnp.array(given, jnp.float32)[labels]

    def _of_classes(self, given: tuple[Any, ...], classes: int) -> tuple[Any, ...]:
        if len(given) != classes:
            raise UserError(
                f"ClassLoss has {len(given)} weights or counts, and there are {classes} classes. Fix: "
                "class_weights=(...), or counts=(...), a number for each; of tags in the order O, B-x, I-x, ..."
            )
        return given
