"""Proof, before a stage is trained, that documents packed into one row cannot see each other.

In: the parts of a run and the rows of a stage. Out: a line for people and one in isolation.jsonl, or an error that
names the kernel. Three things are measured (probe.py), forward and backward, on the run's own attention:

    packed = alone   features and gradients of a document in a row, against the same document at the start of its own
    replaced         features of a document when all others are replaced: not a bit may change
    reached          the gradient that a document's features send to the others: zero, and nothing else

The last two need no tolerance: what a softmax does not see it multiplies by zero, in any dtype and any order.
"""

import json
import time
from collections.abc import Collection, Sequence
from typing import Any

import jax

from jaxlm.batch import Batch
from jaxlm.config import folder
from jaxlm.errors import NumericalError, UserError
from jaxlm.models import kernels
from jaxlm.run import inputs
from jaxlm.run.streams import StreamRows
from jaxlm.runtime import distributed
from jaxlm.training import probe, probe_rows, report
from jaxlm.training.probe import Measured

_READ = 16  # rows of the first batch whose positions are looked at


def tolerance(dtype: str, platform: str) -> float:
    """Of packed = alone, as a share of the largest number.

    A document at another place is summed in another order. In float32 that is a few of the last of 24 bits; bfloat16
    keeps 8, and so do the factors of float32 products on a TPU (11 on a GPU), a few of which add up.
    """
    return 1e-4 if dtype == "float32" and platform == "cpu" else 5e-2


def prove(
    parts: Any,
    rows: Sequence[StreamRows],
    span: report.Span,
    chosen: Collection[kernels.Choice],
    *,
    keep: bool = True,
) -> None:
    """Says and notes what was measured. NumericalError when documents see each other, UserError for wrong positions.

    `chosen`: what attention of the compiled train step runs on. `keep`: whether the run folder notes it.
    """
    if not parts.run.check_isolation:
        return
    names, tried = {choice.name for choice in chosen}, set()
    for read in rows:
        with distributed.ending_together():
            real = _first_batch(parts, read, span)
        for config in probe.models(parts.run.model):
            started = time.perf_counter()
            found = probe.measure(parts.program, config, real, names)
            if keep and distributed.is_main():
                _note(parts, read, span, found, time.perf_counter() - started)
            _judge(parts, read, span, found)
            tried |= set(found.kernels)
    if missed := ", ".join(sorted(names - tried)):
        parts.console.say(
            f"WARNING: isolation is not shown for the kernel {missed}, which the train step also takes"
        )


def _first_batch(parts: Any, read: StreamRows, span: report.Span) -> Batch:
    """The first rows that this start trains on, the same on every host. UserError for positions that do not restart."""
    batch = inputs.first_rows(parts.text, read, start=span.step - span.first, most=_READ)
    if wrong := probe_rows.misplaced(batch):
        raise UserError(
            f"config.objective: in the first batch of stage {span.number}, {wrong}: positions count from 0 in every "
            f"document. Fix: `prepare` of {type(read.stream.objective).__name__}."
        )
    return batch


def _judge(parts: Any, read: StreamRows, span: report.Span, found: Measured) -> None:
    dtype, platform = parts.program.model.dtype, parts.program.mesh.devices.flat[0].platform
    allowed, kernel = tolerance(dtype, platform), " and ".join(found.kernels)
    worst = found.worst(allowed)
    of = f" of task {read.stream.name}" if read.stream.name else ""
    if worst is None:
        parts.console.say(
            f"  {'isolation' + of:<17}  packed = alone: {found.forward.size:.1e} forward, {found.gradient.size:.1e} "
            f"gradient ({dtype}, {kernel}, tolerance {allowed:.0e}); others replaced: 0, their gradient: 0"
        )
        return
    claim, difference, limit = worst
    change = "" if found.kernels == ("xla",) else "--config.model.attention=xla, or "
    ends = ", ".join(map(str, found.ends[difference.row]))
    raise NumericalError(
        f"documents packed into one row see each other{of}. Kernel {kernel}, {dtype}, rows of {span.stage.length}: at "
        f"place {difference.place} of a row of documents that end at {ends}, {claim}: {difference.size:.1e} of the "
        f"largest number, allowed is {limit:.0e}. No step of the stage was taken. Fix: {change}another version of jax "
        "or of the driver; --config.check_isolation=false trains all the same."
    )


def _note(parts: Any, read: StreamRows, span: report.Span, found: Measured, seconds: float) -> None:
    program = parts.program
    allowed = tolerance(program.model.dtype, program.mesh.devices.flat[0].platform)
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "step": span.step,
        "stage": span.number,
        "task": read.stream.name,
        "length": span.stage.length,
        "kernels": found.kernels,
        "dtype": program.model.dtype,
        "device": program.mesh.devices.flat[0].device_kind,
        "mesh": {name: size for name, size in program.mesh.shape.items() if size > 1},
        "jax": jax.__version__,
        **{name: getattr(found, name).size for name in ("forward", "gradient", "replaced", "reached")},
        "tolerance": allowed,
        "documents_end": found.ends[:4],
        "seconds": round(seconds, 2),
        "passed": found.worst(allowed) is None,
    }
    folder.keep(parts.place.isolation, json.dumps(line) + "\n", parts.console.say, append=True)
