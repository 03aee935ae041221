"""The tiny run with bottleneck adapters."""

from jaxlm.config import Run
from jaxlm.views import pfeiffer
from tests.recipes import tiny


def get_config() -> Run:
    """As tiny, but only bottlenecks behind the MLP are trained."""
    run = tiny.get_config()
    run.view = (pfeiffer(width=8, also=""),)
    return run
