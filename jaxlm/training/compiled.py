"""The compiled step of a stage, before it is taken. In: the parts of a run, a stage's first batch. Out: step and facts.

On the way the table is said, a step that no device can hold is refused, and the isolation of documents is shown.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxlm.batch import Batches
from jaxlm.config import Run
from jaxlm.config.folder import RunFolder
from jaxlm.models import kernels
from jaxlm.monitor import preflight
from jaxlm.monitor.console import Console
from jaxlm.run import inputs
from jaxlm.run.program import Program
from jaxlm.run.streams import StreamRows
from jaxlm.runtime import distributed, memory, xla_flags
from jaxlm.training import isolation, record, report

Step = Callable[[Any, Any, Batches], tuple]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """What the stages of a run are made of."""

    run: Run
    place: RunFolder
    text: inputs.Text
    program: Program
    console: Console


def step(
    parts: Parts,
    state: Any,
    frozen: Any,
    rows: tuple[StreamRows, ...],
    batch: Batches,
    span: report.Span,
    *,
    keep: bool = True,
) -> tuple[Step, preflight.Preflight]:
    """Of these arrays, or shapes. `keep`: whether the run folder notes what was measured, and the first rows.

    UserError for a step that does not fit, NumericalError for documents that see each other.
    """
    with kernels.recorded() as attention, xla_flags.known():
        compiled = parts.program.train_step().lower(state, frozen, batch).compile()
    facts = report.facts(parts, span, rows, batch, compiled, attention)
    if jax.default_backend() == "cpu":
        memory.bound_freed_memory(facts.memory_per_device, facts.memory_capacity)
    parts.console.say(preflight.table(facts))
    with distributed.ending_together():
        preflight.check_fits(facts)
    if keep and span.step == span.first:
        record.rows(parts, rows, span.number)
    isolation.prove(parts, rows, span, attention, keep=keep)
    return compiled, facts
