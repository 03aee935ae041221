"""Masked LM with a question about every pair of segments: what BERT's next sentence and ALBERT's order share.

In: rows packed with pairs. Out: masked rows with a label for every pair; two losses from one pass of the encoder.
Each pair is judged at its own [CLS], so packing several pairs into a row changes nothing.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np

from jaxlm.batch import Array, Batch, Head, Loss, Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.errors import UserError
from jaxlm.objectives import scores
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.objective import Objective


@dataclasses.dataclass(kw_only=True)
class SentencePairs(Objective):
    """Published for both: short_share 0.1, duplicates 10; negatives are half of the pairs."""

    items = "pairs"
    token_term = "mlm"
    question: ClassVar[str]  # name of the term of the pairs
    negatives: ClassVar[Literal["random", "swapped"]]  # what pairs of label 1 are

    masked_lm: MaskedLM
    short_share: float  # of documents cut into pairs of a random shorter length
    duplicates: int  # times each training document is cut into pairs, with other draws
    pairs_per_row: int  # at most: the pair slots C of a packed row

    @property
    def negative_share(self) -> float:
        """Of pairs with label 1."""
        raise NotImplementedError

    def validate(self, where: str) -> None:
        """Shares in [0, 1], counts of at least 1. `masked_lm` is checked by its own validate."""
        check_share(self, where, "short_share", "0.1")
        for name, published in (("duplicates", "10"), ("pairs_per_row", "1, one pair a row; packed: 8")):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{where}.{name}={getattr(self, name)}: allowed is 1 or more (published: {published})."
                )

    def check(self, vocabulary: Vocabulary) -> None:
        """What masked LM needs, and the separators of pairs."""
        self.masked_lm.check(vocabulary)
        vocabulary.require(f"the pairs of {type(self).__name__}", "cls", "sep")

    @property
    def needs(self) -> tuple[Head, ...]:
        """Tokens are predicted, and a question about every pair is answered."""
        return ("tokens", "pairs")

    def fit(self, shards: Any, vocabulary: Vocabulary, cache: Cache | None) -> "SentencePairs":
        """With what masked LM learns."""
        return dataclasses.replace(self, masked_lm=self.masked_lm.fit(shards, vocabulary, cache))

    def predictions(self, row_length: int, train: bool) -> int:
        """M, the slots for masked tokens of one row."""
        return self.masked_lm.predictions(row_length, train)

    def prepare(
        self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool
    ) -> dict[str, np.ndarray]:
        """The fields of Batch for one row (without the leading B)."""
        return {
            **self.masked_lm.prepare(row, vocabulary, rng, train=train),
            "first_BC": row.first_C,
            "labels_BC": np.maximum(row.labels_C, 0),
            "label_weights_BC": (row.labels_C >= 0).astype(np.float32),
        }

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of masked tokens and number of pairs in the batch."""
        return {**self.masked_lm.weights(batch), self.question: scores.count(batch.label_weights_BC)}

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Terms `mlm` and the question's; measures `{mlm,nsp,sop}_{loss,accuracy}`. key None: evaluation."""
        x_BTD = model.encode(batch, key)
        masked = self.masked_lm.score(model, x_BTD, batch)
        logits_BC2 = model.classify_pair(scores.gather_positions(x_BTD, batch.first_BC))
        nats = scores.cross_entropy(logits_BC2, batch.labels_BC, batch.label_weights_BC)
        right = scores.accuracy(logits_BC2, batch.labels_BC, batch.label_weights_BC)
        return Loss(
            {**masked.terms, self.question: nats},
            {**masked.measures, f"{self.question}_loss": nats, f"{self.question}_accuracy": right},
        )


def check_share(config: Any, where: str, name: str, published: str) -> None:
    """UserError unless the field is within [0, 1]."""
    if not 0.0 <= getattr(config, name) <= 1.0:
        raise UserError(
            f"{where}.{name}={getattr(config, name)}: allowed is 0 to 1 (published: {published})."
        )
