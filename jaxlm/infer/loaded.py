"""A trained model, ready to use. In: a run folder. Out: its Run, tokenizer and bound model with restored weights.

The best checkpoint is used when the run kept one, else the newest; the moving average of the weights when there is one.
"""

import dataclasses
import pathlib
from typing import Any

from jaxlm.checkpoint.policy import best_first
from jaxlm.checkpoint.store import open_run
from jaxlm.config import Run, folder
from jaxlm.data.tokenizer import Tokenizer, load
from jaxlm.models.build import Model, build


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A run's model with its weights."""

    run: Run
    tokenizer: Tokenizer
    model: Model
    params: Any
    step: int


def load_run(workdir: pathlib.Path, *, step: int | None = None) -> Loaded:
    """Loads a run folder, float32, onto the default device. Raises UserError where there is none."""
    place, run = folder.read(workdir)
    checkpoints, newest = open_run(workdir)
    if step is None:
        metrics = {saved: checkpoints.metrics(saved) for saved in checkpoints.steps()}
        step = next(iter(best_first(metrics, run.checkpoint.keep)), newest)
    model = build(run.model, dtype="float32")
    params = checkpoints.restore_params(step, model.shapes, part="ema" if run.ema_decay else "params")
    return Loaded(run, load(place.tokenizer), model, params, step)
