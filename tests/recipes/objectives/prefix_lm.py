"""Prefix LM with the decoder of causal_lm.py."""

from causal_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.prefix_lm import PrefixLM


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective = PrefixLM(z_loss=0.0, label_smoothing=0.0, shortest=0.0, longest=1.0)
    return run
