"""BERT with both heads, with one, and with another activation."""

import dataclasses

from jaxlm.models.bert import Bert
from tools.parity.case import Case
from tools.parity.kinds import Masked

BERT = Bert(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
    position_init="normal",
)
# The key's bias shifts all scores of a query alike.
ROUNDING = r"key\.bias$"
NOTE = "the gradient of the key's bias is zero but for rounding: below 1e-5 absolutely"

CASES = [
    Case(name="BERT", config=BERT, kind=Masked(pair="nsp"), rounding=ROUNDING, note=NOTE),
    Case(
        name="BERT, masked LM only",
        config=dataclasses.replace(BERT, activation="gelu_tanh"),
        kind=Masked(),
        rounding=ROUNDING,
        note=NOTE,
    ),
]
