"""Span corruption with a tiny T5 on real text; the other encoder-decoder recipes here change its objective."""

from causal_lm import get_config as base

from jaxlm.config import Run
from jaxlm.data.tokenizer import Unigram
from jaxlm.models.t5 import T5
from jaxlm.objectives.span_corruption import SpanCorruption


def get_config() -> Run:
    """Data and optimizer of causal_lm.py; 2 + 2 layers of width 96."""
    run = base()
    run.model = T5(
        vocab_size=2048,
        hidden=96,
        encoder_layers=2,
        decoder_layers=2,
        heads=4,
        head_dim=24,
        mlp=256,
        activation="gelu_tanh",
        gate="gated",
        head="untied",
        buckets=32,
        max_distance=128,
        dropout=0.0,
        norm_epsilon=1e-6,
        init_factor=1.0,
        layer_loop="unrolled",
    )
    run.objective = SpanCorruption(
        z_loss=1e-4, label_smoothing=0.0, density=0.15, mean_span=3.0, decoder_start="pad"
    )
    run.tokenizer = Unigram(vocab_size=2048, sentinels=48)
    run.steps = 400
    return run
