"""Fine-tuning on conversations (SFT): predict the answers, given what came before.

In: rows packed with conversations as the tokenizer's chat template writes them. Out: the cross-entropy of every token
of every answer, the one that ends the turn included; what a user or a system says is read and not predicted. A
conversation sees no other, and every token of an answer weighs the same, wherever in the batch it stands.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxlm.batch import Array, Batch, Loss, Row, Vocabulary
from jaxlm.objectives import generative, scores
from jaxlm.objectives.conversing import Conversing
from jaxlm.objectives.predictions import Predictions


@dataclasses.dataclass(kw_only=True)
class Chat(Conversing):
    """As Ouyang et al., 2203.02155, section 3.5, begin: z_loss 0, label_smoothing 0."""

    token_term = "lm"

    z_loss: float  # coefficient of log(Z)^2, which keeps logits from drifting; 0: off
    label_smoothing: float  # share of the target's probability that is spread over the vocabulary; 0: off
    chunk: int = 128  # targets per row whose logits exist together; 0: all. Changes memory, not results

    def validate(self, where: str) -> None:
        """UserError for a loss or numbers that cannot work."""
        super().validate(where)
        generative.check_loss(self, where)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """The row as it is; nothing is drawn."""
        return Batch(
            tokens_BT=row.tokens_T,
            segments_BT=row.segments_T,
            positions_BT=row.positions_T,
            targets=self.answered(row, row.positions_T, train=train),
        )

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of targets in the batch."""
        return {"lm": scores.count(batch.targets.weights_BM)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`lm`: logits at the targets."""
        encoded = model.encode(batch, key)
        return Predictions.of(encoded, lm=scores.token_logits(model, encoded.x_BTD, batch.targets))

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `lm`; measures `lm_loss` (nats per token of an answer), `lm_accuracy`, and with z-loss `lm_z`."""
        settings = {"chunk": self.chunk, "z_loss": self.z_loss, "label_smoothing": self.label_smoothing}
        return scores.of_tokens(predictions["lm"], batch.targets.ids_BM, "lm", **settings)
