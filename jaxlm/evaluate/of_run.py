"""Metrics of a run that was trained. In: its folder, a split. Out: what its evaluators measure there.

Guaranteed: the weights, rows, masks and order are those of the run's own evaluations, so that the validation split of
the last step gives the numbers of its metrics.jsonl.
"""

from collections.abc import Callable

import jax

from jaxlm import assemble
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.evaluate.evaluator import HeldOutLoss, Ready
from jaxlm.exchange import bases, stored
from jaxlm.models.paths import flatten, nest
from jaxlm.partition import mesh as meshes
from jaxlm.program import Program


def measure(
    name: str, *, split: assemble.Split, step: int | None, rows: int, base: str, say: Callable[[str], None]
) -> tuple[int, dict[str, float]]:
    """(step, {metric: value}). UserError for what is no run, or a split that its corpus does not have."""
    step = stored.best_step(expanded(name)) if step is None else step
    found = stored.open_stored(name, say=say, step=step)
    if found.run is None:
        raise UserError(
            f"{name} is a model without a run: its data and objective are not known. Name a run folder."
        )
    run = found.run
    run.init_from = base or run.init_from
    program = Program.of(run, meshes.make(run.mesh))
    with jax.set_mesh(program.mesh):
        text = assemble.text(run, say)
        frozen, _ = bases.frozen(program, text.tokenizer, found.meta.get("base"), found.where, say)
        where = {path: leaf.sharding for path, leaf in flatten(program.state.params).items()}
        weights, stage = nest(found.place(where)), run.stages[-1]
        ready = Ready(
            program=program,
            text=text,
            frozen=frozen,
            stage=stage,
            rows=assemble.rows(run, text, stage, split),
        )
        every = (HeldOutLoss(rows=rows), *run.evaluators)
        return step, {k: v for one in every for k, v in one.start(ready)(weights).items()}
