"""Causal language modelling: predict every next token (GPT: Radford et al., 2018; 2019).

In: rows of passages. Out: `[bos] x` as input and `x + what follows` as targets, in place: the eos token where the
document ends, else its next token. Packed pieces are segments of their own: none is predicted from another.
"""

import dataclasses

import numpy as np

from jaxlm.batch import Batch, Row, Vocabulary
from jaxlm.objectives import generative
from jaxlm.objectives.frame import Frame


@dataclasses.dataclass(kw_only=True)
class CausalLM(generative.Generative):
    """GPT-2 and Llama as published: z_loss 0, label_smoothing 0; PaLM: z_loss 1e-4."""

    @property
    def trains(self) -> generative.Kind:
        """A decoder."""
        return "decoder"

    @property
    def overhead(self) -> int:
        """The bos token before every piece."""
        return 1

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs bos and eos (of GPT-2 the same token)."""
        vocabulary.require("causal language modelling", "bos", "eos")

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """bos before a prompt, eos ends its continuation."""
        return Frame(before=(vocabulary.bos,), after=(), start=(), stops=(vocabulary.eos,))

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Inputs and targets of one row; nothing is drawn."""
        parts = [
            (np.concatenate([[vocabulary.bos], tokens]), np.concatenate([tokens, [label]]))
            for tokens, label in generative.pieces(row)
        ]
        return generative.in_place(parts, len(row.tokens_T), vocabulary.pad)
