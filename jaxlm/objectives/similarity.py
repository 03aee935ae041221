"""How alike two texts are, from a vector of each: a bi-encoder. In: pairs of texts with a `Number`. Out: one loss.

Each text is encoded by itself; the cosine of the two vectors is drawn to the score, as sentence-transformers'
CosineSimilarityLoss has it. The vectors of a trained model may be kept and compared with any others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Loss, Pair, Row, Vocabulary
from jaxlm.data.corpus.columns import Number
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head, Pooler
from jaxlm.objectives import embeddings, reading, regression, scores
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.labelled import Carrying
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.regression import NumberTargets


@dataclasses.dataclass(kw_only=True)
class Similarity(Carrying):
    """Squared error of the cosine against the score, brought from `lowest`..`highest` to 0..1."""

    learns: ClassVar[type] = Number

    pooling: embeddings.Pooling  # mean of a text, its [CLS], or that through the pooler
    lowest: float  # the score of texts that have nothing in common: cosine 0
    highest: float  # the score of texts that say the same: cosine 1

    @property
    def needs_sentences(self) -> bool:
        """Where one field of a record ends."""
        return True

    def validate(self, where: str) -> None:
        """UserError, too, for bounds that are none."""
        super().validate(where)
        if not self.lowest < self.highest:
            raise UserError(
                f"{where}.lowest={self.lowest}, {where}.highest={self.highest}: the scores of cosine 0 and of cosine "
                "1; the first must be below the second."
            )

    @property
    def vectors(self) -> embeddings.Pooling:
        """As configured."""
        return self.pooling

    def heads(self, config: Any) -> Mapping[str, Head]:
        """For "cls_mlp" the pooler."""
        return {"pooler": Pooler()} if self.pooling == "cls_mlp" else {}

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Two texts side by side, each cut to `max_tokens`."""
        return self.whole(shards, vocabulary, asked, groups=2, unit="fields", texts=2)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Every text is a segment of its own; nothing is drawn."""
        batch, begins = reading.apart(row, row.texts_T, 2)
        numbers = NumberTargets.of(row, self.column, vocabulary)
        return dataclasses.replace(batch, targets=dataclasses.replace(numbers, first_BC=begins))

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of pairs."""
        return {"number": scores.count(batch.targets.weights_BC)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`cosines` of the two texts of every item, [B, C]."""
        encoded, e_BCD = embeddings.of_items(model, batch, key, batch.targets.first_BC, self.pooling)
        e_BCD = embeddings.unit(e_BCD)
        return Predictions.of(encoded, cosines=(e_BCD[:, ::2] * e_BCD[:, 1::2]).sum(axis=-1))

    def towards(
        self, said: Predictions, taught: Predictions, batch: Batch, apart: Divergence
    ) -> dict[str, Pair]:
        """Squared difference of the cosines."""
        away_BC = (said["cosines"] - taught["cosines"]) ** 2
        weights_BC = batch.targets.weights_BC
        return {"number": (jnp.where(weights_BC > 0, away_BC * weights_BC, 0.0).sum(), weights_BC.sum())}

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `number`; measures `number_loss`, `number_error`: squared and absolute error, of cosines."""
        asked = batch.targets
        cosines_BC = (asked.numbers_BC - self.lowest) / (self.highest - self.lowest)
        return regression.errors(predictions["cosines"], dataclasses.replace(asked, numbers_BC=cosines_BC))

    def number(self, cosine: float) -> float:
        """The score that a cosine stands for."""
        return self.lowest + (self.highest - self.lowest) * cosine
