"""`--preflight`: all that precedes a run, stage by stage. In: the parts of a run. Out: tables, and what they add up to.

Every stage is packed and compiled, is refused if it does not fit, shows that its documents are isolated, and takes a
few steps to be timed, with a state that is thrown away. Nothing is written into the run folder.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax

from jaxlm.batch import Batches
from jaxlm.monitor import forecast, preflight
from jaxlm.monitor.console import duration, human
from jaxlm.monitor.preflight import Preflight, gib
from jaxlm.run import inputs
from jaxlm.run.step import TrainState
from jaxlm.training import compiled, plan, report
from jaxlm.training.compiled import Parts

_STEPS = 3  # that are timed; the first is left out


@dataclasses.dataclass(frozen=True)
class _Seen:
    """Of a stage, measured."""

    facts: Preflight
    starting_s: float  # packing, compiling
    step_s: float
    held_out: float  # tokens of all held-out rows


def show(parts: Parts, state: TrainState, frozen: Any) -> None:
    """Says it all. The arrays of `state` are used up."""
    seen = list(_stages(parts, state, frozen))
    parts.console.say(_summary(parts, seen))


def _stages(parts: Parts, state: TrainState, frozen: Any) -> Iterator[_Seen]:
    run, text = parts.run, parts.text
    for number, (first, last) in enumerate(run.stage_steps()):
        if first == last:
            continue
        stage, began = run.stages[number], time.perf_counter()
        rows = inputs.rows(run, text, stage, "train", number=number)
        held_out = inputs.rows(run, text, stage, "validation")
        with inputs.train_feed(text, rows, parts.program.mesh, start=0) as feed:
            span = report.Span(stage, number, first, last, first)
            step, facts = compiled.step(parts, state, frozen, rows, feed.peek(), span, keep=False)
            starting_s = time.perf_counter() - began
            state, step_s = _timed(step, state, frozen, next(feed))
        yield _Seen(facts, starting_s, step_s, sum(len(read.rows) for read in held_out) * stage.length)


def _timed(step: compiled.Step, state: TrainState, frozen: Any, batch: Batches) -> tuple[TrainState, float]:
    """(the state after it, seconds of the fastest step)."""
    seconds = []
    for _ in range(_STEPS):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, frozen, batch))
        seconds.append(time.perf_counter() - began)
    return state, min(seconds[1:])


def _summary(parts: Parts, seen: list[_Seen]) -> str:
    legs, due = plan.of(parts)
    legs = [leg for leg in legs if leg.first < leg.last]
    total_s = forecast.planned_s(
        legs, due, *([getattr(one, name) for one in seen] for name in ("step_s", "starting_s", "held_out"))
    )
    tokens = sum(one.facts.steps * one.facts.tokens_per_step for one in seen)
    useful = sum(
        one.facts.steps * one.facts.tokens_per_step * (one.facts.packing_efficiency or 1.0) for one in seen
    )
    parameters = seen[0].facts.parameters
    peak = max(one.facts.memory_per_device or 0.0 for one in seen)
    capacity = seen[0].facts.memory_capacity
    stages = [
        (
            f"stage {i} of {len(seen)}",
            f"{one.facts.steps:,} steps of {one.step_s:.3g} s; {_memory(one.facts)}",
        )
        for i, one in enumerate(seen, 1)
    ]
    rows = [
        *stages,
        ("time", f"about {duration(total_s)} in all, evaluations included, saves not; steps were timed"),
        ("tokens", f"{human(tokens)} in {parts.run.steps:,} steps, {human(useful)} of them useful"),
        ("per parameter", f"{useful / parameters:.3g} tokens ({human(parameters)} parameters)"),
        ("peak memory", f"{gib(peak)} per device" + (f" of {gib(capacity)}" if capacity else "")),
    ]
    lines = [f"preflight: {parts.place.shown} is as it was", *preflight.columns(rows)]
    return "\n".join([*lines, "To train, type the same without --preflight."])


def _memory(facts: Preflight) -> str:
    return f"{gib(facts.memory_per_device)} per device" if facts.memory_per_device else "memory unknown"
