"""Causal LM with a mixture of experts in place of the MLPs of objectives/causal_lm.py."""

import pathlib

import jaxlm
from jaxlm.config import Run
from jaxlm.models.mixtral import Mixtral


def get_config() -> Run:
    """8 experts of 64 hidden units, two for every token."""
    run = jaxlm.load_recipe(str(pathlib.Path(__file__).parent / "objectives" / "causal_lm.py"))
    sizes = vars(run.model) | {"mlp": 64}
    run.model = Mixtral(**sizes, experts=8, experts_per_token=2, balance_loss=0.02, router_z_loss=0.001)
    return run
