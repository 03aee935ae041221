"""The tiny run with a low-rank view: three lines more in a recipe."""

from jaxlm.config import Run
from jaxlm.views import LoRA
from tests.recipes import tiny


def get_config() -> Run:
    """As tiny, but only thin matrices beside attention and MLP are trained."""
    run = tiny.get_config()
    run.view = (LoRA(rank=4, alpha=8.0, scaling="sqrt"),)
    return run
