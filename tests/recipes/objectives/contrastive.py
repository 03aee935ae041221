"""Sentence embeddings by two dropouts with the encoder of masked_lm.py."""

from masked_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives.contrastive import DropoutContrastive


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.model.dropout = 0.1
    run.objective = DropoutContrastive(
        temperature=0.05, pooling="cls_mlp", max_tokens=30, items_per_row=4, text="sentences"
    )
    return run
