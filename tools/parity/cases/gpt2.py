"""GPT-2, and one whose MLP is not four times as wide, with another activation."""

import dataclasses

from jaxlm.models.gpt2 import Gpt2
from tools.parity.case import Case
from tools.parity.kinds import Causal

GPT2 = Gpt2(
    vocab_size=101,
    hidden=36,
    layers=3,
    heads=4,
    mlp=144,
    max_positions=17,
    embedding_dropout=0.0,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-5,
    activation="gelu_tanh",
    init_scale=0.02,
)
EXTRA = {"bos_token_id": 100, "eos_token_id": 100}

CASES = [
    Case(name="GPT-2", config=GPT2, kind=Causal(), extra=EXTRA),
    Case(
        name="GPT-2, mlp 56, ReLU",
        config=dataclasses.replace(GPT2, mlp=56, activation="relu"),
        kind=Causal(),
        extra=EXTRA,
    ),
]
