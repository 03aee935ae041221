"""A tagger: a class for every token of a column of spans. In: rows that carry the column. Out: one loss, two measures."""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxlm.batch import NONE, Array, Batch, Loss, Row, Shown
from jaxlm.data.rows.documents import Documents
from jaxlm.errors import UserError
from jaxlm.models.heads import Classify
from jaxlm.objectives import scores
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Logits, Predictions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TagTargets:
    tags_BT: Array  # int32: 0 outside, 2 n + 1 where a span of label n begins, 2 n + 2 inside
    weights_BT: Array  # float32: 0 at special tokens and padding

    def show(self, b: int) -> Shown:
        return Shown(notes={1: "tags " + " ".join(map(str, self.tags_BT[b][self.weights_BT[b] > 0]))})


@dataclasses.dataclass(kw_only=True)
class Tagger(Objective):
    column: str
    labels: tuple[str, ...]  # as in the training split

    def items(self, shards, vocabulary, asked):
        if (found := shards.labels(self.column)) != self.labels:
            raise UserError(f"Tagger.labels={self.labels}, but the corpus has {found}. Fix: labels={found}.")
        return Documents(shards, vocabulary, (self.column,))

    def heads(self, config: Any) -> dict:
        return {"tags": Classify(classes=2 * len(self.labels) + 1)}

    def prepare(self, row: Row, vocabulary, rng, *, train: bool) -> Batch:
        tags = row.of_tokens(self.column)
        asked = TagTargets(tags_BT=np.maximum(tags, 0), weights_BT=(tags != NONE).astype("f"))
        return Batch(tokens_BT=row.tokens_T, segments_BT=row.segments_T, positions_BT=row.positions_T,
                     types_BT=row.texts_T, targets=asked)  # fmt: skip

    def weights(self, batch: Batch) -> dict[str, Array]:
        return {"tags": scores.count(batch.targets.weights_BT)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        encoded = model.encode(batch, key)
        head = lambda model, x_BTD: model.heads["tags"](x_BTD)
        return Predictions.of(encoded, tags=Logits(encoded.x_BTD, model, head, batch.targets.weights_BT))

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        logits, asked = predictions["tags"](), batch.targets
        nats = scores.cross_entropy(logits, asked.tags_BT, asked.weights_BT)
        right = scores.accuracy(logits, asked.tags_BT, asked.weights_BT)
        return Loss({"tags": nats}, {"tags_loss": nats, "tags_accuracy": right})
