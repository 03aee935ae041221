"""DistilBERT, with learned positions and with positions that started as sines."""

import dataclasses

from jaxlm.models.distilbert import DistilBert
from tools.parity.case import Case
from tools.parity.kinds import Masked

DISTILBERT = DistilBert(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.02,
    position_init="normal",
)
# The key's bias shifts all scores of a query alike.
ROUNDING = r"k_lin\.bias$"
NOTE = "the gradient of the key's bias is zero but for rounding: below 1e-5 absolutely"

CASES = [
    Case(name="DistilBERT", config=DISTILBERT, kind=Masked(types=1), rounding=ROUNDING, note=NOTE),
    Case(
        name="DistilBERT, sinusoidal start",
        config=dataclasses.replace(DISTILBERT, position_init="sinusoidal", activation="relu"),
        kind=Masked(types=1),
        rounding=ROUNDING,
        note=NOTE,
    ),
]
