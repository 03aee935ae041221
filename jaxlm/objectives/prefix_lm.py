"""Prefix language modelling: a passage's beginning is seen as a whole, its rest predicted (T5, 1910.10683, 3.2.1).

In: rows of passages. Out: rows of a decoder with `prefix_BT` over bos and the prefix, and targets in place after it.
The prefix's length is drawn for every piece; a piece of one token is its own suffix.
"""

import dataclasses

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.errors import UserError
from jaxlm.objectives import generative
from jaxlm.objectives.frame import Frame


@dataclasses.dataclass(kw_only=True)
class PrefixLM(generative.Generative):
    """As published (T5): the prefix is any share of the passage, shortest 0, longest 1."""

    shortest: float  # of a piece's tokens that are its prefix, at least; drawn uniformly
    longest: float  # and at most; one token is always left to predict

    def validate(self, where: str) -> None:
        """Shares in order inside [0, 1]."""
        super().validate(where)
        if not 0.0 <= self.shortest <= self.longest <= 1.0:
            raise UserError(
                f"{where}: shortest={self.shortest} and longest={self.longest} must be shares in rising order "
                "(published: 0 and 1)."
            )

    @property
    def trains(self) -> generative.Kind:
        """A decoder."""
        return "decoder"

    @property
    def overhead(self) -> int:
        """The bos token before every piece."""
        return 1

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs bos and eos."""
        vocabulary.require("prefix language modelling", "bos", "eos")

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """bos before a prompt, eos ends its continuation."""
        return Frame(before=(vocabulary.bos,), after=(), start=(), stops=(vocabulary.eos,), prefix=True)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """One row; a draw for every piece."""
        pairs = []
        for tokens, label in generative.pieces(row):
            share = rng.uniform(self.shortest, self.longest)
            cut = min(int(share * len(tokens) + 0.5), len(tokens) - 1)
            prefix = np.concatenate([[vocabulary.bos], tokens[:cut]])
            pairs.append((prefix, np.concatenate([tokens[cut:], [label]])))
        return generative.source_then_target(pairs, len(row.tokens_T), vocabulary.pad)
