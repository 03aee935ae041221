"""ModernBERT, with a window that is shorter than the rows, in two alternations of local and global layers."""

import dataclasses

from jaxlm.models.modernbert import ModernBert
from tools.parity.case import Case
from tools.parity.kinds import Masked

MODERNBERT = ModernBert(
    vocab_size=101,
    hidden=36,
    layers=6,  # one, then a whole turn of three, then two that the scan leaves over
    heads=3,
    mlp=44,
    activation="gelu",
    max_positions=40,
    window=6,
    global_every=3,
    global_base=160000.0,
    local_base=100.0,
    dropout=0.0,
    norm_epsilon=1e-5,
    init_scale=0.02,
)
EXTRA = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}

CASES = [
    Case(name="ModernBERT", config=MODERNBERT, kind=Masked(types=1), extra=EXTRA),
    Case(
        name="ModernBERT, every second layer global",
        config=dataclasses.replace(MODERNBERT, layers=4, window=2, global_every=2, activation="gelu_tanh"),
        kind=Masked(types=1),
        extra=EXTRA,
    ),
]
