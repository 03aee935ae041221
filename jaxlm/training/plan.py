"""What a run is going to do, for the forecast of its time. In: its parts. Out: stages, their costs, when it pauses."""

from typing import Any

from jaxlm.config import Run
from jaxlm.models import cost
from jaxlm.monitor.forecast import Due, Forecast, Leg
from jaxlm.run.program import Program
from jaxlm.training import report


def forecast(parts: Any, start: int) -> Forecast:
    """Of a start of the run from step `start`."""
    return Forecast(*of(parts), start=start)


def of(parts: Any) -> tuple[list[Leg], Due]:
    """(its stages, when it pauses)."""
    run: Run = parts.run
    sets = sum(len(stream.sources) for stream in parts.text.streams)  # of held-out rows
    costs = _costs(parts)
    legs = [
        Leg(
            first=first,
            last=last,
            tokens=run.batch_size * stage.length,
            cost=costs[stage.length],
            evaluated=run.evaluation.rows * sets * stage.length or float("inf"),
        )
        for stage, (first, last) in zip(run.stages, run.stage_steps(), strict=True)
    ]
    own, saving = run.evaluation.every_steps, run.checkpoint
    due = Due(
        evaluation=min([own, *(one.every_steps or own for one in run.evaluators)]),
        save=saving.every_steps,
        save_s=60.0 * saving.every_minutes,
        save_best=saving.keep.best > 0,
    )
    return legs, due


def _costs(parts: Any) -> dict[int, float]:
    """FLOPs of a step by row length; of a run with one length any number does."""
    program: Program = parts.program
    stages = {stage.length: stage for stage in parts.run.stages}
    if len(stages) == 1:
        return dict.fromkeys(stages, 1.0)
    state = program.state
    # An optimizer costs the same at every length, and Muon's matrix products are no small part of a small batch.
    update = cost.forward_flops(program.optimizer.update, state.params, state.opt_state, state.params)
    shapes = {n: program.batches(stage, parts.text.vocabulary) for n, stage in stages.items()}
    return {n: float(update + report.flops(program, batch)) for n, batch in shapes.items()}
