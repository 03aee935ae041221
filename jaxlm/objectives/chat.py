"""Fine-tuning on conversations (SFT): predict the answers, given what came before.

In: rows packed with conversations as the tokenizer's chat template writes them. Out: the cross-entropy of every token
of every answer, the one that ends the turn included; what a user or a system says is read and not predicted. A
conversation sees no other, and every token of an answer weighs the same, wherever in the batch it stands.
"""

import dataclasses

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.objectives.conversing import Conversing
from jaxlm.objectives.generative import NextTokens


@dataclasses.dataclass(kw_only=True)
class Chat(Conversing, NextTokens):
    """As Ouyang et al., 2203.02155, section 3.5, begin: z_loss 0, label_smoothing 0."""

    def validate(self, where: str) -> None:
        """UserError for a loss or numbers that cannot work."""
        Conversing.validate(self, where)
        NextTokens.validate(self, where)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """The row as it is; nothing is drawn."""
        return Batch(
            tokens_BT=row.tokens_T,
            segments_BT=row.segments_T,
            positions_BT=row.positions_T,
            targets=self.answered(row, row.positions_T, train=train),
        )
