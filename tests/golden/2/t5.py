"""The run of t5/: an encoder-decoder, span corruption, a factored optimizer, a moving average of the weights."""

from gpt2 import get_config as base

from jaxlm.config import Run
from jaxlm.data.tokenizer import ByteBpe
from jaxlm.models.t5 import T5
from jaxlm.objectives.span_corruption import SpanCorruption
from jaxlm.optim.optimizers import Adafactor
from jaxlm.optim.schedules import WarmupLinear


def get_config() -> Run:
    """Data and steps of gpt2.py."""
    run = base()
    run.model = T5(
        vocab_size=290,
        hidden=8,
        encoder_layers=2,
        decoder_layers=2,
        heads=2,
        head_dim=4,
        mlp=12,
        activation="gelu_tanh",
        gate="gated",
        head="scaled",
        buckets=8,
        max_distance=16,
        dropout=0.1,
        norm_epsilon=1e-6,
        init_factor=1.0,
    )
    run.objective = SpanCorruption(
        z_loss=1e-4, label_smoothing=0.0, density=0.15, mean_span=3.0, decoder_start="pad"
    )
    run.tokenizer = ByteBpe(vocab_size=290, sentinels=20, infill="off")
    run.optimizer = Adafactor(
        schedule=WarmupLinear(peak=1e-2, warmup="10%", end=0.0),
        weight_decay=0.0,
        clip_norm=0.0,
        decay_rate=0.8,
        epsilon=1e-30,
        update_clip=1.0,
        parameter_floor=1e-3,
        momentum=0.0,
        factor_from=8,
    )
    run.ema_decay = 0.9
    return run
