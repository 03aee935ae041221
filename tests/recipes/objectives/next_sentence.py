"""Masked LM and next sentence with the encoder of masked_lm.py."""

from masked_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.next_sentence import NextSentence


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective = NextSentence(
        masked_lm=run.objective, short_share=0.1, random_share=0.5, duplicates=2, pairs_per_row=2
    )
    return run
