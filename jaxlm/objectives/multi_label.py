"""Any number of labels for every text: one yes or no for each. In: rows of texts with `Labels`. Out: one loss.

The loss is the binary cross-entropy of a sigmoid a label, its mean over labels, as transformers' models have it with
problem_type="multi_label_classification". What is packed beside a text changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import NONE, Array, Batch, Loss, Pair, Row, Shown, Vocabulary
from jaxlm.data.corpus.columns import Labels
from jaxlm.errors import UserError
from jaxlm.objectives import reading, scores
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.labelled import Judged, Labelled
from jaxlm.objectives.predictions import Predictions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsTargets:
    """Which labels every item of a row has."""

    first_BC: Array  # int32: place of the item's first token; 0 in unused slots
    labels_BCK: Array  # float32: 1 for a label that the item has, else 0
    weights_BC: Array  # float32: 1 where an item is real, else 0
    start_B: Array | None = None  # int32, see ItemTargets

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        named = lambda c: ", ".join(map(str, np.flatnonzero(self.labels_BCK[b, c]))) or "none"
        return Shown(
            notes={c + 1: f"labels {named(c)}" for c in np.flatnonzero(self.weights_BC[b] > 0).tolist()}
        )


@dataclasses.dataclass(kw_only=True)
class MultiLabel(Judged, Labelled):
    """A sigmoid a label, on the features that a classification has."""

    learns: ClassVar[type] = Labels
    problem_type: ClassVar[str] = "multi_label_classification"

    # A label is given from this probability on, in the order of `labels`; (): 0.5 for each. No part of the training
    thresholds: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        """A logit for each label."""
        return len(self.labels)

    @property
    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """The labels."""
        return {"classes": self.labels}

    @property
    def given_from(self) -> np.ndarray:
        """[K]: the thresholds."""
        return np.array(self.thresholds or [0.5] * len(self.labels))

    def validate(self, where: str) -> None:
        """UserError, too, for thresholds that are none, or not one for each label."""
        super().validate(where)
        wrong = self.thresholds and self.labels and len(self.thresholds) != len(self.labels)
        if wrong or not all(0.0 <= one <= 1.0 for one in self.thresholds):
            raise UserError(
                f"{where}.thresholds={self.thresholds}: one from 0 to 1 for each of the {len(self.labels)} labels, or "
                "() for 0.5."
            )

    def targets(self, row: Row, vocabulary: Vocabulary) -> LabelsTargets:
        """1 or 0 for every label of every item."""
        values = row.of_items(self.column)
        if values.ndim == 1:  # a row of padding
            values = np.full((len(values), len(self.labels)), NONE)
        return LabelsTargets(
            first_BC=row.first_C,
            labels_BCK=(values == 1).astype(np.float32),
            weights_BC=(values != NONE).any(axis=1).astype(np.float32),
            start_B=reading.start(vocabulary),
        )

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of items."""
        return {"classes": scores.count(batch.targets.weights_BC)}

    def apart(self, one: Predictions, other: Predictions) -> dict[str, Pair]:
        """Symmetric divergence of yes and no, the mean over labels."""
        a, b = (said["classes"]().astype(jnp.float32) for said in (one, other))
        nats_BC = 0.5 * ((jax.nn.sigmoid(a) - jax.nn.sigmoid(b)) * (a - b)).mean(-1)
        weights_BC = one["classes"].weights_BM
        return {"classes": (jnp.where(weights_BC > 0, nats_BC * weights_BC, 0.0).sum(), weights_BC.sum())}

    def towards(
        self, said: Predictions, taught: Predictions, batch: Batch, apart: Divergence
    ) -> dict[str, Pair]:
        """Of yes and no, the mean over labels."""
        return {"classes": scores.between(said["classes"], taught["classes"], apart.of_labels)}

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `classes`; measures `classes_loss` (nats a label), `classes_exact` (all labels right), `classes_f1`
        (micro), these two with the thresholds."""
        logits_BCK, asked = predictions["classes"](), batch.targets
        right_BCK, weights_BC = asked.labels_BCK, asked.weights_BC
        nats_BC = (jax.nn.softplus(logits_BCK) - right_BCK * logits_BCK).mean(axis=-1)
        total = lambda values_BC: jnp.where(weights_BC > 0, values_BC * weights_BC, 0.0).sum()
        given_BCK = jax.nn.sigmoid(logits_BCK) >= self.given_from
        hits = total((given_BCK & (right_BCK > 0)).sum(axis=-1))
        both = total(given_BCK.sum(axis=-1) + right_BCK.sum(axis=-1))
        weight = weights_BC.sum()
        nats, exact = total(nats_BC), total((given_BCK == (right_BCK > 0)).all(axis=-1))
        measures = {
            "classes_loss": (nats, weight),
            "classes_exact": (exact, weight),
            "classes_f1": (2 * hits, both),
        }
        return Loss({"classes": (nats, weight)}, measures)

    def answer(self, shares_K: Sequence[float]) -> dict[str, Any]:
        """{the labels given, and a probability for each} of one item."""
        given = np.asarray(shares_K) >= self.given_from
        return {
            "predicted": [name for name, yes in zip(self.labels, given, strict=True) if yes],
            "probabilities": {name: float(p) for name, p in zip(self.labels, shares_K, strict=True)},
        }
