"""Masked LM and sentence order with the encoder of masked_lm.py."""

from masked_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.masked_lm import Ngrams
from jaxlm.objectives.sentence_order import SentenceOrder


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective.unit = Ngrams(longest=3, of="words")
    run.objective = SentenceOrder(
        masked_lm=run.objective, short_share=0.1, swapped_share=0.5, duplicates=2, pairs_per_row=2
    )
    return run
