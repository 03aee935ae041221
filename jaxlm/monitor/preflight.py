"""The table before the first step: what is about to run and whether it fits. In: a `Preflight`. Out: text.

Guarantees: pure formatting; what is unknown (None) is left out, what will not fit is marked. `check_fits` refuses what
cannot.
"""

import dataclasses
import math
from collections.abc import Sequence

from jaxlm.errors import UserError
from jaxlm.monitor.console import duration, human


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is known of a run before its first step. Sizes in bytes, times in seconds."""

    devices: str  # "8 x TPU v4, mesh data 8"
    precision: str
    attention: str  # kernel and why it was chosen
    parameters: int
    steps: int
    tokens_per_step: float  # positions: rows x row length, padding included
    packing_efficiency: float | None = None  # share of the positions that is not padding
    rows_per_epoch: int | None = None
    rows_per_step: int | None = None
    accumulate: int = 1  # micro-batches of a step
    flops_per_step: float | None = None
    peak_flops: float | None = None  # FLOP/s of all devices together
    memory_per_device: float | None = None  # estimate
    memory_capacity: float | None = None  # of the smallest device
    memory_limit: float | None = None  # what it cannot have more of
    checkpoint_bytes: float | None = None
    checkpoints_kept: int | None = None
    disk_free: float | None = None
    seconds_per_step: float | None = None  # estimate
    compiler: str = ""  # options that it is given
    stage: str = ""  # "stage 1 of 2: "
    done: int = 0  # steps of these that are trained already
    notes: tuple[str, ...] = ()


def table(facts: Preflight) -> str:
    """Two columns, one fact a line."""
    rows = [
        ("devices", facts.devices),
        ("precision", facts.precision),
        ("attention", facts.attention),
        ("compiler", facts.compiler and f"{facts.compiler} (yours in XLA_FLAGS or LIBTPU_INIT_ARGS win)"),
        ("parameters", human(facts.parameters)),
        ("tokens per step", _tokens(facts)),
        ("training", _training(facts)),
        ("FLOPs per step", _flops(facts)),
        ("memory per device", _memory(facts)),
        ("checkpoint", _checkpoint(facts)),
        ("time left", _time(facts)),
        *(("note", note) for note in facts.notes),
    ]
    return "\n".join(columns([(name, text) for name, text in rows if text]))


def columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """A line each, the texts below one another."""
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {text}" for name, text in rows]


def check_fits(facts: Preflight) -> None:
    """UserError when the step needs more memory than a device can have; nothing where either is not known."""
    needed, limit = facts.memory_per_device, facts.memory_limit
    if needed and limit and needed > limit:
        enough, rows = facts.accumulate * needed / limit, facts.rows_per_step or 1
        parts = next((n for n in range(1, rows + 1) if n >= enough and rows % n == 0), None)
        raise UserError(
            f"config.batch_size: a step of {human(facts.tokens_per_step)} tokens needs {gib(needed)} of memory per "
            f"device, and there are {gib(limit)}. {smaller(parts)}"
        )


def smaller(accumulate: int | None = 2) -> str:
    """What to do about a step that does not fit, with this many micro-batches or more; None: no number helps."""
    micro = f"--config.accumulate={accumulate} or more (smaller micro-batches), " if accumulate else ""
    return (
        f"Fix, each with the same results: {micro}--config.model.remat=block, --config.mesh.fsdp=N over more devices, "
        "--config.mesh.optimizer_memory=host (of a TPU or GPU). Else: a smaller --config.batch_size, shorter rows, a "
        "smaller model."
    )


def gib(size: float) -> str:
    """Bytes as '1.5 GiB' or '12.0 MiB'."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**29 else f"{size / 2**20:.1f} MiB"


def _tokens(facts: Preflight) -> str:
    text = human(facts.tokens_per_step)
    if facts.packing_efficiency is not None:
        text += f", {100 * facts.packing_efficiency:.1f}% of it useful (packing)"
    return text


def _training(facts: Preflight) -> str:
    text = f"{facts.stage}{facts.steps} steps, {human(facts.steps * facts.tokens_per_step)} tokens"
    if facts.rows_per_epoch and facts.rows_per_step:
        per_epoch = facts.rows_per_epoch * facts.tokens_per_step / facts.rows_per_step
        epochs = facts.steps * facts.rows_per_step / facts.rows_per_epoch
        text += f", {epochs:.3g} epochs of {facts.rows_per_epoch} rows ({human(per_epoch)} tokens)"
    if facts.done:
        text += f"; {facts.done} steps of them are done"
    return text


def _flops(facts: Preflight) -> str:
    if not facts.flops_per_step:
        return ""
    text = human(facts.flops_per_step)
    if facts.peak_flops:
        best = facts.flops_per_step / facts.peak_flops
        text += f" (at best {best:.3g} s per step: peak {human(facts.peak_flops)}FLOP/s)"
    return text


def _memory(facts: Preflight) -> str:
    if facts.memory_per_device is None:
        return ""
    text = f"{gib(facts.memory_per_device)} estimated"
    if facts.memory_capacity:
        share = facts.memory_per_device / facts.memory_capacity
        text += f", {100 * share:.0f}% of {gib(facts.memory_capacity)}"
        if share > 1:
            text += (
                "  DOES NOT FIT: lower --config.batch_size, raise --config.accumulate or --config.mesh.fsdp"
            )
    return text


def _checkpoint(facts: Preflight) -> str:
    if facts.checkpoint_bytes is None:
        return ""
    text = gib(facts.checkpoint_bytes)
    if facts.checkpoints_kept:
        text += f", up to {facts.checkpoints_kept} of them"
    if facts.disk_free is not None:
        text += f"; {gib(facts.disk_free)} free"
    return text


def _time(facts: Preflight) -> str:
    if facts.seconds_per_step is None or not math.isfinite(facts.seconds_per_step):
        return ""
    left = facts.steps - facts.done
    pace = f"{facts.seconds_per_step:.3g} s per step at half the measured matmul rate"
    return f"about {duration(left * facts.seconds_per_step)}, {pace}"
