"""What a run says of itself. In: its parts. Out: the preflight facts, provenance, rows to look at.

Only reads; nothing here changes training.
"""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.checkpoint import space
from jaxlm.config import Run, Stage, tree
from jaxlm.data.rows.mixture import Mixed
from jaxlm.data.show import show_batch
from jaxlm.errors import NumericalError, UserError
from jaxlm.models import cost
from jaxlm.models.kernels import Choice
from jaxlm.monitor import preflight as table
from jaxlm.monitor.hardware import peak_flops
from jaxlm.monitor.throughput import matmul_rate
from jaxlm.partition import hosted, rules
from jaxlm.partition import state as partition
from jaxlm.run.program import Program
from jaxlm.run.streams import StreamRows
from jaxlm.runtime import device_memory, distributed


def evaluation_line(step: int, metrics: Mapping[str, float]) -> str:
    """One line for a person."""
    return f"evaluation at step {step}:  " + "  ".join(
        f"{k.removeprefix('eval/')} {v:.4f}" for k, v in metrics.items()
    )


def provenance(run: Run) -> dict[str, Any]:
    """Config and versions, for the metadata of a checkpoint."""
    return {
        "config": tree.to_json(run),
        "versions": versions(),
        "saved_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def versions() -> dict[str, str]:
    """Of the packages that a result may depend on."""
    packages = ("jaxlm", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers", "numpy")
    return {name: _version(name) for name in packages}


def check_same(saved: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises UserError when the tokenizer or the rows of this start are not those of the checkpoint."""
    distributed.check_same(now)
    for name, value in now.items():
        if saved.get(name, value) != value:
            raise UserError(
                f"The {name} changed since the checkpoint was saved ({saved[name][:16]} then, {value[:16]} now): the "
                "corpus, or the packages that builtin:pydocs reads, are not the same. Continuing would train on other "
                "tokens; `python -m jaxlm.stream --run=DIR --verify` names the documents. Fix: restore the old corpus "
                "or its cache folder, or start a new run in another --workdir."
            )


@dataclasses.dataclass(frozen=True)
class Span:
    """A stage of the run, and how far it is: steps [first, last), of which those before `step` are done."""

    stage: Stage
    number: int
    first: int
    last: int
    step: int


def axes(program: Program) -> str:
    """The mesh in words, and what a pipeline loses."""
    schedule = program.schedule
    shown = [f"{name} {size}" for name, size in program.mesh.shape.items() if size > 1]
    round = f" that goes round {schedule.repeats} times" if schedule.repeats > 1 else ""
    idle = f", stages idle {schedule.bubble:.0%} of a pass{round}" if schedule.bubble else ""
    return (" ".join(shown) or "one device") + idle


def facts(
    parts: Any, span: Span, rows: Sequence[StreamRows], batch: Any, compiled: Any, attention: list[Choice]
) -> table.Preflight:
    """Everything the preflight table of a stage shows."""
    run: Run = parts.run
    peak = peak_flops(jax.devices()[0].device_kind)
    efficiency = sum(r.rows.efficiency * r.stream.batch_rows for r in rows) / run.batch_size
    per_step = flops(parts.program, batch)
    # Virtual devices share the machine's cores, so a CPU has the rate of one device however many it shows.
    workers = 1 if jax.default_backend() == "cpu" else jax.device_count()
    return table.Preflight(
        devices=f"{jax.device_count()} x {jax.devices()[0].device_kind}, mesh {axes(parts.program)}",
        precision=f"{parts.program.model.dtype} compute, float32 weights",
        attention="; ".join(dict.fromkeys(f"{c.name} ({c.reason})" for c in attention)),
        compiler=" ".join(parts.program.compiler_options()),
        parameters=cost.count_parameters(parts.program.params),
        stage=f"stage {span.number + 1} of {len(run.stages)}: " if len(run.stages) > 1 else "",
        steps=span.last - span.first,
        done=span.step - span.first,
        tokens_per_step=run.batch_size * span.stage.length,
        packing_efficiency=efficiency,
        rows_per_epoch=len(rows[0].rows)
        if len(rows) == 1
        else None,  # several tasks have epochs of their own
        rows_per_step=run.batch_size,
        accumulate=run.accumulate,
        flops_per_step=per_step,
        seconds_per_step=2.0 * per_step / (matmul_rate(parts.program.model.dtype) * workers),
        peak_flops=peak * jax.device_count() if peak else None,
        memory_per_device=device_memory.estimate(compiled),
        memory_capacity=device_memory.capacity(),
        memory_limit=device_memory.limit(),
        checkpoint_bytes=space.state_bytes(parts.program.state),
        checkpoints_kept=run.checkpoint.keep.count(),
        disk_free=space.free_bytes(parts.place.root),
        notes=tuple(_notes(parts, span, rows, efficiency)),
    )


def _notes(parts: Any, span: Span, rows: Sequence[StreamRows], efficiency: float) -> list[str]:
    """What a person should know beside the table."""
    program = parts.program
    by = rules.of_weights(parts.run.mesh.fsdp_splits)
    unsharded = partition.unsharded(program.params, program.model.axes, program.mesh, by)
    notes = [f"{u.path} {u.shape} is held whole on every device: {u.reason}" for u in unsharded]
    if parts.run.view:
        trained, all_of_it = map(cost.count_parameters, (parts.program.state.params, parts.program.params))
        notes.append(
            f"trained are {trained:,} of {all_of_it:,} parameters ({100 * trained / all_of_it:.2g}%)"
        )
    if in_host := hosted.size(program.state):
        notes.append(f"moments and averages lie in the host's memory: {table.gib(in_host)} for each device")
    if efficiency < 0.5:
        notes.append("more than half of every row is padding: use packing=best_fit, or shorter rows")
    notes += [note for r in rows for note in _epoch_notes(r, span.last - span.first)]
    return notes


def _epoch_notes(read: StreamRows, steps: int) -> list[str]:
    """The epochs of one of several tasks, and of the sources of a mixture."""
    return [*([_task_note(read, steps)] if read.stream.name else []), *_source_notes(read, steps)]


def _task_note(read: StreamRows, steps: int) -> str:
    rows, per_step = len(read.rows), read.stream.batch_rows
    return (
        f"task {read.stream.name}: {per_step} rows per step, {steps * per_step / rows:.3g} epochs of {rows} rows, "
        f"{100 * read.rows.efficiency:.1f}% of them useful"
    )


def _source_notes(read: StreamRows, steps: int) -> list[str]:
    if not isinstance(read.rows, Mixed):
        return []
    used = read.rows.used(steps * read.stream.batch_rows)
    return [
        f"source {name}: {100 * n / max(sum(used), 1):.3g}% of all rows, {n / len(rows):.3g} epochs of {len(rows)} rows"
        for name, rows, n in zip(read.rows.names, read.rows.sources, used, strict=True)
    ]


def flops(program: Program, batch: Any) -> int:
    """Of a training step on a batch of arrays or shapes; of one with a view or a teacher what its gradient takes."""
    alike = {
        name: dataclasses.replace(one, most_segments=None) for name, one in batch.items()
    }  # of no matter here
    leaves, tree = jax.tree.flatten(alike)
    return _flops(program, tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))


@functools.lru_cache(maxsize=16)  # the forecast and the table of a stage ask for the same
def _flops(program: Program, tree: Any, shapes: tuple[tuple, ...]) -> int:
    batch = tree.unflatten([jax.ShapeDtypeStruct(*one) for one in shapes])
    run = program.run
    if not run.view and program.teacher is None:
        return cost.training_flops(run.model, _total_loss(program.tasks), batch, run.heads)
    plain = dataclasses.replace(run.model, attention="xla", remat="none")
    teacher = run.teacher_model and dataclasses.replace(run.teacher_model, attention="xla", remat="none")
    program = Program.of(dataclasses.replace(run, model=plain, teacher_model=teacher), program.mesh)
    total = _total_loss(program.tasks)
    loss = lambda trained, frozen, batch: total(program.bind(trained, frozen), batch)
    return cost.forward_flops(jax.grad(loss), program.state.params, program.frozen, batch)


def _total_loss(objective: Any) -> Callable[[Any, Any], jax.Array]:
    """(module, batch) -> the sum of the terms, as in training: some objectives encode once per dropout."""
    return lambda module, batch: jnp.stack(
        [s for s, _ in objective.loss(module, batch, jax.random.key(0)).terms.values()]
    ).sum()


def shown(batch: Any, token: Callable[[int], str], rows: int) -> str:
    """The first rows of a batch as the model sees them, of every task."""
    parts = []
    for name, one in jax.device_get(batch).items():
        parts += [f"task {name}:"] if name else []
        parts.append(show_batch(one, token, rows=rows))
    return "\n\n".join(parts)


def dump_rows(parts: Any, rows: Sequence[StreamRows], batches: list[int], step: int) -> pathlib.Path:
    """Writes the rows of these batches of the stage, and the items (documents, or pairs) in them; returns the file."""
    listings = {read.stream.name: _listing(read, batches) for read in rows}
    found = listings.get("", {"tasks": listings})
    path = parts.place.crash / f"non_finite-step-{step}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"up to step": step, **found}) + "\n")
    return path


def diverged(parts: Any, in_a_row: int, read_to: int, dump: str, aside: str) -> NumericalError:
    """What ends a run after so many steps in a row, up to `read_to`, that were not finite."""
    newest = parts.checkpoints.latest()
    start = "from the beginning" if newest is None else f"from the checkpoint of step {newest}"
    peak = f"--config.optimizer.schedule.peak={parts.run.optimizer.schedule.peak / 10:g}"
    return NumericalError(
        f"{in_a_row} steps in a row had a loss or gradient that is not finite, up to step {read_to}; "
        f"nothing of them was applied. Rows and items they read: {dump}. Fix: the same command with a lower "
        f"learning rate, say {peak} --allow_config_change, or a longer optimizer.schedule.warmup, or with "
        f"--config.precision=float32. It goes on {start}{aside}."
    )


def _listing(read: StreamRows, batches: list[int]) -> dict[str, Any]:
    numbers = [i for batch in batches for i in read.numbers(batch)]
    listed = {i: read.rows.listed(i) for i in numbers}
    items = {i: found.get("", found) for i, found in listed.items()}  # of a mixture with the source
    return {"rows": [numbers[0], numbers[-1]], "items": items}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
