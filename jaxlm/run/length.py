"""The length of a run that was given in epochs. In: a Run. Out: the Run with its steps, which its config then keeps."""

import dataclasses
import math
from collections.abc import Callable

from jaxlm.config import Run
from jaxlm.errors import UserError
from jaxlm.run import inputs


def counted(run: Run, say: Callable[[str], None]) -> Run:
    """`run`, or a copy with the steps of its epochs and of what it does once an epoch.

    UserError for a run whose streams have epochs of their own.
    """
    if not run.epochs:
        return _evaluated(run, run.steps)
    text = inputs.text(run, lambda line: None)
    stream, *others = text.streams
    if others or stream.data.mixture is not None:
        what = "tasks" if others else "corpora of a mixture"
        raise UserError(
            f"config.epochs={run.epochs:g}: several {what} have an epoch each. Fix: --config.steps=N."
        )
    # A stage has its share of the steps, and reads rows of its own length.
    passes = 0.0
    for number, stage in enumerate(run.stages):
        (found,) = inputs.rows(run, text, stage, "train", number=number)
        passes += stage.share * run.batch_size / len(found.rows)
    steps = max(run.steps, math.ceil(run.epochs / passes))
    say(f"  length             {steps:,} steps: {steps * passes:.3g} epochs of {1 / passes:,.1f}")
    return _evaluated(dataclasses.replace(run, steps=steps), math.ceil(1 / passes))


def _evaluated(run: Run, every: int) -> Run:
    """The run, evaluated so often where nothing else is said."""
    if run.evaluation.every_steps:
        return run
    evaluation = dataclasses.replace(run.evaluation, every_steps=every)
    return dataclasses.replace(run, evaluation=evaluation)
