"""UL2's mixture of denoisers with the T5 of span_corruption.py."""

from span_corruption import get_config as base

from jaxlm.config import Run
from jaxlm.objectives import ul2


def get_config() -> Run:
    """The base recipe with another objective."""
    run = base()
    run.objective = ul2.MixtureOfDenoisers(
        z_loss=1e-4,
        label_smoothing=0.0,
        denoisers=ul2.published(),
        form="encoder_decoder",
        decoder_start="pad",
    )
    return run
