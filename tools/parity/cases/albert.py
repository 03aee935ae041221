"""ALBERT with both heads, and with masked LM alone and another activation."""

import dataclasses

from jaxlm.models.albert import Albert
from tools.parity.case import Case
from tools.parity.kinds import Masked

ALBERT = Albert(
    vocab_size=101,
    embedding=10,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu_tanh",
    init_scale=0.02,
)
# The key's bias shifts all scores of a query alike.
ROUNDING = r"key\.bias$"
NOTE = "the gradient of the key's bias is zero but for rounding: below 1e-5 absolutely"
# transformers has a dropout of its own before the classes, also where the config has none.
EXTRA = {"classifier_dropout_prob": 0.0, "bos_token_id": 1, "eos_token_id": 2}

CASES = [
    Case(
        name="ALBERT",
        config=ALBERT,
        kind=Masked(pair="sop"),
        extra=EXTRA,
        rounding=ROUNDING,
        note=NOTE,
    ),
    Case(
        name="ALBERT, masked LM only",
        config=dataclasses.replace(ALBERT, activation="gelu"),
        kind=Masked(),
        extra=EXTRA,
        rounding=ROUNDING,
        note=NOTE,
    ),
]
