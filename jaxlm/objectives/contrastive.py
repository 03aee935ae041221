"""Contrastive sentence embeddings: SimCSE (Gao et al., 2104.08821). In: rows of short texts. Out: one loss per batch.

Every text is drawn to its partner and away from all other texts of the batch, over the whole mesh: its own second
encoding under another dropout (`DropoutContrastive`), or the other text of its record (`PairContrastive`). The loss of
a row depends on the rest of its batch, so there are no micro-batches.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Loss, Row, Vocabulary
from jaxlm.data.rows import texts
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head, Pooler
from jaxlm.objectives import embeddings, reading, scores
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.targets import ItemTargets


@dataclasses.dataclass(kw_only=True)
class Contrastive(Objective):
    """SimCSE as published: temperature 0.05, pooling "cls_mlp", texts of 30 tokens at most (32 with [CLS], [SEP])."""

    whole_batch = True

    temperature: float  # cosines are divided by it; published: 0.05
    pooling: embeddings.Pooling  # mean of a text, its [CLS], or that through the pooler
    max_tokens: int  # of a text, without [CLS] and [SEP]; the rest is cut off
    items_per_row: int  # at most: texts, or groups of texts that belong together; 1 is one a row

    @property
    def vectors(self) -> embeddings.Pooling:
        """As configured."""
        return self.pooling

    @property
    def texts(self) -> int:
        """Texts of an item."""
        return 1

    @property
    def unit(self) -> str:
        """What one text is, see data.texts."""
        raise NotImplementedError

    @property
    def needs_sentences(self) -> bool:
        """Sentences and fields are kept as sentences of documents."""
        return self.unit != "documents"

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Short texts, as [CLS] ... [SEP]; those of an item stand side by side."""
        longest = self.texts * (self.max_tokens + 2)
        if longest > asked.length:
            raise UserError(
                f"{type(self).__name__}.max_tokens={self.max_tokens}: {self.texts} texts of that many tokens and two "
                f"special ones each do not fit a row of {asked.length}. Fix: rows of {longest} tokens, or "
                f"max_tokens={max(asked.length // self.texts - 2, 1)}."
            )
        wanted = {"unit": self.unit, "texts": self.texts, "max_tokens": self.max_tokens}
        return texts.make_texts(shards, vocabulary, **wanted, cache=asked.cache)

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.items_per_row

    def validate(self, where: str) -> None:
        """Positive numbers."""
        if not 0.0 < self.temperature <= 10.0:
            raise UserError(
                f"{where}.temperature={self.temperature}: allowed is above 0 to 10 (published: 0.05)."
            )
        for name, low, published in (("max_tokens", 1, "30"), ("items_per_row", 1, "1; packed: 8")):
            if not low <= getattr(self, name) < 2**16:
                raise UserError(
                    f"{where}.{name}={getattr(self, name)}: allowed is {low} to {2**16 - 1} (published: {published})."
                )

    def check(self, vocabulary: Vocabulary) -> None:
        """Texts stand between [CLS] and [SEP]."""
        vocabulary.require(type(self).__name__, "cls", "sep")

    def heads(self, config: Any) -> Mapping[str, Head]:
        """For "cls_mlp" the model's pooler, which is SimCSE's MLP layer."""
        return {"pooler": Pooler()} if self.pooling == "cls_mlp" else {}

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Every text becomes a segment of its own, labelled with its number in the item; nothing is drawn."""
        batch, begins = reading.apart(row, row.texts_T, self.texts)
        real = np.arange(len(begins)) < batch.segments_BT.max(initial=0)
        labels = np.where(real, row.texts_T[begins], 0).astype(np.int32)
        targets = ItemTargets(first_BC=begins, labels_BC=labels, weights_BC=real.astype(np.float32))
        return dataclasses.replace(batch, targets=targets)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of anchors."""
        return {"contrastive": scores.count(_flat(batch.targets.weights_BC, self.texts)[:, 0])}

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """The loss from the embeddings of the X texts of every item: anchor, positive, hard negative if any.

        Term `contrastive`; measures `contrastive_loss` (nats), `contrastive_accuracy` (the positive is the nearest of
        all candidates), `alignment`, `uniformity`.
        """
        e_IXD, real_IX = predictions["embeddings"], predictions["real"]
        e_IXD = embeddings.unit(e_IXD)
        anchors_ID, weights_I = e_IXD[:, 0], real_IX[:, 0]
        candidates_JD = jnp.moveaxis(e_IXD[:, 1:], 1, 0).reshape(-1, e_IXD.shape[-1])
        real_J = real_IX[:, 1:].T.reshape(-1) > 0
        nats, right = embeddings.in_batch(anchors_ID, candidates_JD, real_J, weights_I, self.temperature)
        return Loss(
            {"contrastive": nats},
            {
                "contrastive_loss": nats,
                "contrastive_accuracy": right,
                "alignment": embeddings.alignment(anchors_ID, e_IXD[:, 1], weights_I),
                "uniformity": embeddings.uniformity(anchors_ID, weights_I > 0),
            },
        )


@dataclasses.dataclass(kw_only=True)
class DropoutContrastive(Contrastive):
    """Unsupervised: the same text under two dropouts. Published: sentences of Wikipedia, batches of 64.

    Evaluation, too, encodes twice, with dropouts that never change: without any, both encodings would be one.
    """

    text: Literal["documents", "sentences"]  # documents must be short: what is beyond max_tokens is cut off

    @property
    def unit(self) -> str:
        """As configured."""
        return self.text

    def check_model(self, model: Any, where: str) -> None:
        """UserError, too, for a model without dropout."""
        super().check_model(model, where)
        names = [name for name in vars(model) if name.endswith("dropout")]
        if not any(getattr(model, name) > 0 for name in names):
            found = " and ".join(f"{where}.{name}={getattr(model, name)}" for name in names) or f"{where}"
            raise UserError(
                f"{found}: {type(self).__name__} tells the two encodings of a text apart by dropout alone, and without "
                f"it there is nothing to learn. Fix: --{where}.dropout=0.1 (published), or PairContrastive."
            )

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """Two passes of the encoder; the second encodings of the other texts are the negatives."""
        keys = jax.random.split(jax.random.key(0) if key is None else key)
        asked = batch.targets
        of = lambda key: embeddings.of_items(model, batch, key, asked.first_BC, self.pooling)
        encoded, views = zip(*(of(key) for key in keys), strict=True)
        e_IXD = jnp.stack([_flat(e_BCD, 1)[:, 0] for e_BCD in views], axis=1)
        real_I = _flat(asked.weights_BC, 1)
        real_IX = jnp.concatenate([real_I, real_I], axis=1)
        terms = jax.tree.map(jnp.add, *(e.terms for e in encoded))
        return Predictions({"embeddings": e_IXD, "real": real_IX}, terms)


@dataclasses.dataclass(kw_only=True)
class PairContrastive(Contrastive):
    """Supervised: records of texts that belong together, in `data.text_fields`. Published: NLI with hard negatives."""

    negatives: Literal["in_batch", "hard"]  # hard: records have a third text that must not be near the first

    @property
    def texts(self) -> int:
        """Anchor, positive, and the hard negative if there is one."""
        return 3 if self.negatives == "hard" else 2

    @property
    def unit(self) -> str:
        """The fields of a record."""
        return "fields"

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """One pass of the encoder; the positives and hard negatives of all items are the candidates."""
        asked = batch.targets
        encoded, e_BCD = embeddings.of_items(model, batch, key, asked.first_BC, self.pooling)
        flat = {"embeddings": _flat(e_BCD, self.texts), "real": _flat(asked.weights_BC, self.texts)}
        return Predictions.of(encoded, **flat)


def _flat(values_BC: Array, texts: int) -> Array:
    """[B, C, ...] -> [I, texts, ...]: the texts of an item stand side by side in a row."""
    return values_BC.reshape(-1, texts, *values_BC.shape[2:])
