"""Whole-word masking with the encoder of masked_lm.py."""

from masked_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.masked_lm import Words


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective.unit = Words()
    return run
