"""BART's denoising with the encoder-decoder of span_corruption.py."""

from span_corruption import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.denoising import Denoising


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective = Denoising(
        z_loss=0.0,
        label_smoothing=0.0,
        permute=1.0,
        rotate=0.0,
        infill=0.3,
        mean_span=3.0,
        mask=0.0,
        delete=0.0,
        decoder_start="eos",
    )
    return run
