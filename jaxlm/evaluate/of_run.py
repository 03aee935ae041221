"""Metrics of a run that was trained. In: its folder, a split. Out: what its evaluators measure there.

Guaranteed: the weights, rows, masks and order are those of the run's own evaluations, so that the validation split of
the last step gives the numbers of its metrics.jsonl.
"""

from collections.abc import Callable
from typing import Any

import jax

from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.evaluate.evaluator import Evaluator, HeldOutLoss, Ready
from jaxlm.exchange import bases, model_folder, stored
from jaxlm.partition import mesh as meshes
from jaxlm.run import inputs
from jaxlm.run.program import Program


def measure(
    name: str, *, split: inputs.Split, step: int | None, rows: int, base: str, say: Callable[[str], None]
) -> tuple[int, dict[str, float]]:
    """(step, {metric: value}). UserError for what is no run, or a split that its corpus does not have."""
    if stored.is_foreign(name) or model_folder.is_one(expanded(name)):
        raise UserError(
            f"{name} is a model without a run: its data and objective are not known. Name a run folder."
        )
    stored.check_ours(expanded(name))
    step = stored.best_step(expanded(name)) if step is None else step
    found = stored.open_stored(name, say=say, step=step)
    assert found.run is not None
    mesh = meshes.make(found.run.mesh)
    with jax.set_mesh(mesh):
        program, weights, frozen = bases.opened(found, base, mesh)
        return step, of_weights(program, frozen, split, rows, say)(weights)


def of_weights(
    program: Program, frozen: Any, split: inputs.Split, rows: int, say: Callable[[str], None]
) -> Callable[[Any], dict[str, float]]:
    """What the evaluators of a run say of trained parameters, on a split; under `jax.set_mesh`."""
    run, stage = program.run, program.run.stages[-1]
    text = inputs.text(run, say)
    ready = Ready(
        program=program,
        text=text,
        frozen=frozen,
        stage=stage,
        split=split,
        rows=inputs.rows(run, text, stage, split),
    )
    every: tuple[Evaluator, ...] = (HeldOutLoss(rows=rows), *run.evaluators)
    started = [one.start(ready) for one in every]
    return lambda weights: {k: v for one in started for k, v in one(weights).items()}
