"""`jaxlm train`: the run itself, top to bottom, is jaxlm/train.py."""

from jaxlm.train import main, run

__all__ = ["main", "run"]
