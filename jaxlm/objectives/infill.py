"""Fill in the middle: a causal model learns to write what stands between two texts (Bavarian et al., 2207.14255).

In: rows of passages. Out: rows as of causal LM in which some pieces are cut in three, at two uniform places between
tokens, and put in another order, with markers:
    prefix-suffix-middle  <prefix> p <suffix> s <middle> m eos
    suffix-prefix-middle  <prefix> <suffix> s <middle> p m eos
Every piece is cut by itself (the paper's context-level form), so no middle is asked for from another document. All
tokens are predicted, markers included, as published.
"""

import dataclasses

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.objectives import generative
from jaxlm.objectives.frame import Frame


@dataclasses.dataclass(kw_only=True)
class FillInTheMiddle(generative.Generative):
    """As published: rate 0.5 (up to 0.9 costs a left-to-right model nothing), psm_share 0.5."""

    rate: float  # of pieces that are cut; the others are plain causal LM
    psm_share: float  # of those: prefix, suffix, middle; the rest suffix, prefix, middle

    def validate(self, where: str) -> None:
        """Shares in [0, 1]."""
        super().validate(where)
        generative.share(self, where, "rate", published="0.5 to 0.9")
        generative.share(self, where, "psm_share", published="0.5")

    @property
    def trains(self) -> generative.Kind:
        """A decoder."""
        return "decoder"

    @property
    def overhead(self) -> int:
        """bos and three markers; a piece that is not cut leaves three places empty."""
        return 4

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs bos, eos and the three markers."""
        vocabulary.require("filling in the middle", "bos", "eos", "infill")

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """bos before a prompt, eos ends its continuation."""
        return Frame(before=(vocabulary.bos,), after=(), start=(), stops=(vocabulary.eos,))

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """One row; draws for every piece."""
        parts = []
        for tokens, label in generative.pieces(row):
            if rng.random() < self.rate:
                tokens, label = (
                    self._cut(tokens, vocabulary, rng),
                    vocabulary.eos,
                )  # eos: the middle is complete
            inputs, targets = np.concatenate([[vocabulary.bos], tokens]), np.concatenate([tokens, [label]])
            parts.append((inputs, targets))
        return generative.in_place(parts, len(row.tokens_T), vocabulary.pad)

    def _cut(self, tokens: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator) -> np.ndarray:
        low, high = sorted(rng.integers(len(tokens) + 1, size=2).tolist())
        first, middle, last = tokens[:low], tokens[low:high], tokens[high:]
        prefix, suffix, mark = vocabulary.infill
        if rng.random() < self.psm_share:
            return np.concatenate([[prefix], first, [suffix], last, [mark], middle])
        return np.concatenate([[prefix, suffix], last, [mark], first, middle])
