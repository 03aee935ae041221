"""T5 1.0 (scaled features, tied head, distances beyond the last bucket) and 1.1 (gated, a head of its own)."""

import dataclasses

from jaxlm.models.t5 import T5
from tools.parity.case import Case
from tools.parity.kinds import Seq2Seq

MODEL = T5(
    vocab_size=101,
    hidden=36,
    encoder_layers=3,
    decoder_layers=2,
    heads=4,
    head_dim=10,
    mlp=56,
    activation="relu",
    gate="none",
    head="scaled",
    buckets=32,
    max_distance=128,
    dropout=0.0,
    norm_epsilon=1e-6,
    init_factor=1.0,
)
# Narrower: scores are not scaled, and a gated MLP makes them so large that after five steps at MODEL's sizes torch in
# float32 is 8e-3 away from torch in float64.
GATED = dataclasses.replace(
    MODEL,
    activation="gelu_tanh",
    gate="gated",
    head="untied",
    hidden=20,
    encoder_layers=2,
    decoder_layers=1,
    head_dim=6,
    mlp=30,
)

CASES = [
    # Rows of 13 and 11 tokens: with so few buckets, both halves of them and the last one of all that is farther.
    Case(name="T5", config=dataclasses.replace(MODEL, buckets=8, max_distance=7), kind=Seq2Seq()),
    Case(name="T5 1.1", config=GATED, kind=Seq2Seq(), untied=("lm_head.weight",)),
]
