"""Classes of texts: one label of a few for every text, or for texts that belong together.

In: rows packed with texts, each `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, that carry a label. Out: one loss. Every
text is judged at its own [CLS] and sees no other, so packing several into a row changes nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.batch import NONE, Array, Batch, Loss, Row, Vocabulary
from jaxlm.data.rows import texts
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head, of_texts
from jaxlm.objectives import scores
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Logits, Predictions
from jaxlm.objectives.targets import ItemTargets


@dataclasses.dataclass(kw_only=True)
class Classification(Objective):
    """As Devlin et al., 1810.04805, section 4.1, fine-tune BERT: dense on the pooled [CLS], cross-entropy."""

    column: str  # of the corpus, a Label in data.columns
    labels: tuple[str, ...]  # sorted; (): those of the training split, which the run then keeps
    texts: int  # of an item: 1, or 2: the fields of data.text_fields in one segment
    max_tokens: int  # of an item, without [CLS] and [SEP]; the longer text is cut at its end until they fit
    items_per_row: int  # at most; 1 is one a row

    @property
    def missing_labels(self) -> str:
        """The column, until its names are known."""
        return "" if self.labels else self.column

    @property
    def needs_sentences(self) -> bool:
        """Where one field of a record ends."""
        return self.texts > 1

    def validate(self, where: str) -> None:
        """UserError for numbers that make no rows, and for one label only."""
        for name, most in (("texts", 2), ("max_tokens", 2**16 - 1), ("items_per_row", 2**16 - 1)):
            if not 1 <= getattr(self, name) <= most:
                raise UserError(f"{where}.{name}={getattr(self, name)}: allowed is 1 to {most}.")
        if self.labels and (len(set(self.labels)) != len(self.labels) or len(self.labels) < 2):
            raise UserError(
                f"{where}.labels={self.labels}: two or more different names, or () for those of the training data."
            )

    def check(self, vocabulary: Vocabulary) -> None:
        """Texts stand between [CLS] and [SEP]."""
        vocabulary.require(type(self).__name__, "cls", "sep")

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Classes of a text, as transformers' ...ForSequenceClassification has them in every family."""
        return of_texts(config, classes=len(self.labels))

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Whole texts, cut to `max_tokens`."""
        if (found := shards.labels(self.column)) != self.labels:
            raise UserError(
                f'{type(self).__name__}.labels={self.labels}, but column "{self.column}" of the training data has '
                f"{found}. Fix: --config.objective.labels=() with a new --workdir."
            )
        longest = self.max_tokens + self.texts + 1
        if longest > asked.length:
            raise UserError(
                f"{type(self).__name__}.max_tokens={self.max_tokens} and {self.texts + 1} special tokens do not fit a "
                f"row of {asked.length}. Fix: --config.objective.max_tokens={asked.length - self.texts - 1}, or longer "
                "rows."
            )
        return texts.make_texts(
            shards,
            vocabulary,
            unit="fields" if self.texts > 1 else "documents",
            texts=self.texts,
            max_tokens=self.max_tokens,
            joined=True,
            cache=asked.cache,
            columns=(self.column,),
        )

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.items_per_row

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
