"""ERNIE's three levels of masking with the encoder of masked_lm.py."""

from masked_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.masked_lm import Phrases


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective.unit = Phrases(token_share=0.4, word_share=0.3, sizes=(4000, 2000))
    return run
