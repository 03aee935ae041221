"""Classes of texts: one label of a few for every text, or for texts that belong together.

In: rows packed with texts, each `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, that carry a label. Out: one loss. Every
text is judged at its own [CLS] and sees no other, so packing several into a row changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.batch import NONE, Array, Batch, Loss, Row, Vocabulary
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.models.heads import Head, of_texts
from jaxlm.objectives import scores
from jaxlm.objectives.labelled import Labelled, check_number
from jaxlm.objectives.predictions import Logits, Predictions
from jaxlm.objectives.targets import ItemTargets


@dataclasses.dataclass(kw_only=True)
class Classification(Labelled):
    """As Devlin et al., 1810.04805, section 4.1, fine-tune BERT: dense on the pooled [CLS], cross-entropy."""

    texts: int  # of an item: 1, or 2: the fields of data.text_fields in one segment

    @property
    def needs_sentences(self) -> bool:
        """Where one field of a record ends."""
        return self.texts > 1

    @property
    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """The labels."""
        return {"classes": self.labels}

    def validate(self, where: str) -> None:
        """UserError for numbers that make no rows, and for one label only."""
        check_number(self, where, "texts", 2)
        super().validate(where)

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Classes of a text, as transformers' ...ForSequenceClassification has them in every family."""
        return of_texts(config, classes=len(self.labels))

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Whole texts, cut to `max_tokens`."""
        unit = "fields" if self.texts > 1 else "documents"
        special = self.texts + 1
        return self.whole(shards, vocabulary, asked, special, unit=unit, texts=self.texts, joined=True)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """The row as it is; nothing is drawn. A held-out label that training data lack weighs nothing."""
        labels = row.of_items(self.column)
        return Batch(
            tokens_BT=row.tokens_T,
            segments_BT=row.segments_T,
            positions_BT=row.positions_T,
            types_BT=row.texts_T,
            targets=ItemTargets(
                first_BC=row.first_C,
                labels_BC=np.maximum(labels, 0).astype(np.int32),
                weights_BC=(labels != NONE).astype(np.float32),
            ),
        )

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of labelled items."""
        return {"classes": scores.count(batch.targets.weights_BC)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`classes` at the first token of every item."""
        encoded, items = model.encode(batch, key), batch.targets
        x_BCD = scores.gather_positions(encoded.x_BTD, items.first_BC)
        head = lambda model, x_BCD: model.classify(x_BCD, "classes", key)
        return Predictions.of(encoded, classes=Logits(x_BCD, model, head, items.weights_BC))

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `classes`; measures `classes_loss` (nats) and `classes_accuracy`."""
        logits_BCK, items = predictions["classes"](), batch.targets
        nats = scores.cross_entropy(logits_BCK, items.labels_BC, items.weights_BC)
        right = scores.accuracy(logits_BCK, items.labels_BC, items.weights_BC)
        return Loss({"classes": nats}, {"classes_loss": nats, "classes_accuracy": right})

    def answer(self, shares_K: Sequence[float]) -> dict[str, Any]:
        """{predicted label, its probability, and one for each label} of one item."""
        best = int(np.argmax(shares_K))
        each = {name: float(share) for name, share in zip(self.labels, shares_K, strict=True)}
        return {"predicted": self.labels[best], "probability": each[self.labels[best]], "probabilities": each}
