"""Fill in the middle with the decoder of causal_lm.py."""

from causal_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.infill import FillInTheMiddle


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective = FillInTheMiddle(z_loss=0.0, label_smoothing=0.0, rate=0.5, psm_share=0.5)
    return run
