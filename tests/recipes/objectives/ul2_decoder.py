"""UL2's mixture of denoisers, as a prefix LM, with the decoder of causal_lm.py."""

from causal_lm import get_config as base

from jaxlm.config import Run
from jaxlm.objectives import ul2


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective = ul2.MixtureOfDenoisers(
        z_loss=0.0, label_smoothing=0.0, denoisers=ul2.published(), form="decoder", decoder_start="pad"
    )
    return run
