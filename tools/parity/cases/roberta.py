"""RoBERTa and XLM-RoBERTa, whose positions begin behind the padding id: at 1 and, as published, at 2."""

import dataclasses

import numpy as np

from jaxlm.batch import Batch
from jaxlm.models.roberta import Roberta
from tools.parity.case import Case
from tools.parity.kinds import Masked

ROBERTA = Roberta(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    first_position=1,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-5,
    activation="gelu",
    init_scale=0.02,
)
# The key's bias shifts all scores of a query alike.
ROUNDING = r"key\.bias$"
NOTE = "the gradient of the key's bias is zero but for rounding: below 1e-5 absolutely"


class PaddedWithOne(Masked):
    """Padding has the id 1, which no real token has: transformers derives positions from it."""

    def batch(self, vocab_size: int) -> Batch:
        """As Masked's."""
        row = super().batch(vocab_size)
        real = row.segments_BT > 0
        return dataclasses.replace(
            row, tokens_BT=np.where(real, np.maximum(row.tokens_BT, 2), 1).astype(np.int32)
        )


CASES = [
    Case(name="RoBERTa", config=ROBERTA, kind=Masked(types=1), rounding=ROUNDING, note=NOTE),
    Case(
        name="XLM-RoBERTa",
        config=dataclasses.replace(ROBERTA, first_position=2),
        kind=PaddedWithOne(types=1),
        extra={"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"]},
        rounding=ROUNDING,
        note=NOTE,
    ),
]
