"""Masked LM with next-sentence prediction: BERT's full objective (Devlin et al., 1810.04805, section 3.1).

In: rows packed with sentence pairs. Out: masked rows with a label for every pair; two losses from one pass of the
encoder. Each pair is judged at its own [CLS], so packing several pairs into a row changes nothing.
"""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from jaxlm.batch import Array, Batch, Loss, Row, Vocabulary
from jaxlm.errors import UserError
from jaxlm.objectives import scores
from jaxlm.objectives.masked_lm import MaskedLM


@dataclasses.dataclass(kw_only=True)
class NextSentence:
    """BERT as published: short_share 0.1, random_share 0.5, duplicates 10."""

    items: ClassVar[str] = "pairs"

    masked_lm: MaskedLM
    short_share: float  # of documents cut into pairs of a random shorter length
    random_share: float  # of pairs whose second sentence is from another document
    duplicates: int  # times each training document is cut into pairs, with other draws
    pairs_per_row: int  # at most: the pair slots C of a packed row

    def validate(self, where: str) -> None:
        """Shares in [0, 1], counts of at least 1. `masked_lm` is checked by its own validate."""
        for name in ("short_share", "random_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(
                    f"{where}.{name}={getattr(self, name)}: allowed is 0 to 1 (published: 0.1 and 0.5)."
                )
        for name, published in (("duplicates", "10"), ("pairs_per_row", "1, one pair a row; packed: 8")):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{where}.{name}={getattr(self, name)}: allowed is 1 or more (published: {published})."
                )

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
        return {**self.masked_lm.weights(batch), "nsp": scores.count(batch.label_weights_BC)}

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Terms `mlm` and `nsp`; measures `{mlm,nsp}_loss` and `{mlm,nsp}_accuracy`. key None: evaluation."""
        x_BTD = model.encode(batch, key)
        masked = self.masked_lm.score(model, x_BTD, batch)
        logits_BC2 = model.classify_pair(scores.gather_positions(x_BTD, batch.first_BC))
        nats = scores.cross_entropy(logits_BC2, batch.labels_BC, batch.label_weights_BC)
        right = scores.accuracy(logits_BC2, batch.labels_BC, batch.label_weights_BC)
        return Loss(
            {**masked.terms, "nsp": nats}, {**masked.measures, "nsp_loss": nats, "nsp_accuracy": right}
        )
