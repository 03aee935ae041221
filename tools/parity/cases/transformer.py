"""The Transformer of Vaswani et al., as transformers' Marian."""

from jaxlm.models.transformer import Transformer
from tools.parity.case import Case
from tools.parity.cases.bart import IDS, NOTE, ROUNDING
from tools.parity.kinds import Seq2Seq

MODEL = Transformer(
    vocab_size=101,
    hidden=36,
    encoder_layers=3,
    decoder_layers=2,
    heads=4,
    mlp=56,
    max_positions=17,
    activation="relu",
    dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    norm_epsilon=1e-5,
)

CASES = [
    Case(name="Transformer (Marian)", config=MODEL, kind=Seq2Seq(), extra=IDS, rounding=ROUNDING, note=NOTE)
]
