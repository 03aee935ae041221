"""A trained model, ready to use. In: a run folder. Out: its Run, tokenizer and bound model with restored weights.

The best checkpoint is used when the run kept one, else the newest; the moving average of the weights when there is one.
"""

import dataclasses
import pathlib
from typing import Any

import jax

from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Run, folder
from jaxlm.data.tokenizer import Tokenizer, load
from jaxlm.errors import UserError
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
    """Loads a run folder, float32, onto the default device. Raises UserError where it holds no checkpoint."""
    place, run = folder.read(workdir)
    with Checkpoints(place.checkpoints, run.checkpoint.keep) as checkpoints:
        step = checkpoints.best() if step is None else step
        if step is None:
            raise UserError(f"{workdir} holds no checkpoint yet. Fix: train until the first one is saved.")
        model = build(run.model, dtype="float32")
        like = jax.eval_shape(model.init, jax.random.key(0))
        params = checkpoints.restore_params(step, like, ema=run.ema_decay > 0.0)
    return Loaded(run, load(place.tokenizer), model, params, step)
