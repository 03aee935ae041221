"""BART, with more layers in the encoder than in the decoder."""

from jaxlm.models.bart import Bart
from tools.parity.case import Case
from tools.parity.kinds import Seq2Seq

MODEL = Bart(
    vocab_size=101,
    hidden=36,
    encoder_layers=3,
    decoder_layers=2,
    heads=4,
    mlp=56,
    max_positions=17,
    activation="gelu",
    dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    norm_epsilon=1e-5,
    init_scale=0.02,
)
# The key's bias shifts all scores of a query alike.
ROUNDING = r"k_proj\.bias$"
NOTE = "the gradient of the key's bias is zero but for rounding: below 1e-5 absolutely"
# transformers gives the token of padding no gradient: it must be one that is nowhere but in padding.
IDS = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
}

CASES = [Case(name="BART", config=MODEL, kind=Seq2Seq(), extra=IDS, rounding=ROUNDING, note=NOTE)]
