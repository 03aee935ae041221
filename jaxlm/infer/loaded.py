"""A trained model, ready to use. In: a run folder. Out: its Run, tokenizer and bound model with restored weights.

The best checkpoint is used when the run kept one, else the newest; the moving average of the weights when there is one.
"""

import dataclasses
import pathlib
from typing import Any

from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints, open_run
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
    step = _best(checkpoints, run.checkpoint.keep, newest) if step is None else step
    model = build(run.model, dtype="float32")
    params = checkpoints.restore_params(step, model.shapes, part="ema" if run.ema_decay else "params")
    return Loaded(run, load(place.tokenizer), model, params, step)


def _best(checkpoints: Checkpoints, keep: Keep, newest: int) -> int:
    """The step with the best metric, or the newest when none was evaluated."""
    sign = 1.0 if keep.best_mode == "min" else -1.0
    scored = [
        (sign * m[keep.best_metric], s)
        for s in checkpoints.steps()
        if keep.best_metric in (m := checkpoints.metrics(s))
    ]
    return min(scored)[1] if scored else newest
