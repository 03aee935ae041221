"""Faults on purpose, for tests. In: JAXLM_FAULT. Out: the process is killed, stopped, ... when it says.

    JAXLM_FAULT="kill@step=37"                     SIGKILL before step 37
    JAXLM_FAULT="kill@step=40:phase=save_written"  ... while the checkpoint of step 40 is being committed
    JAXLM_FAULT="term@step=9,nan@step=5"           SIGTERM before step 9; step 5 sees a NaN

Actions: kill, term, int, hang, pause (until a signal comes), error (an OSError, disk full), nan. Phases: before_step,
after_step, evaluate, save_started, save_written, save_uploaded (all of it but the manifest, or all that a host with a
disk of its own wrote, is in the bucket),
save_committed, save_pruned. Guarantee: unset, `at` is one comparison.
"""

import dataclasses
import errno
import os
import signal
import threading
from typing import Literal, get_args

from jaxlm.errors import UserError

Action = Literal["kill", "term", "int", "hang", "pause", "error", "nan"]
PHASES = (
    "before_step",
    "after_step",
    "evaluate",
    "save_started",
    "save_written",
    "save_uploaded",
    "save_committed",
    "save_pruned",
)
_SIGNAL = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """One injected fault."""

    action: Action
    step: int
    phase: str


def parse(text: str) -> tuple[Fault, ...]:
    """The faults of JAXLM_FAULT; () when it is empty. UserError names the part that cannot be read."""
    return tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip())


def _parse_one(text: str) -> Fault:
    action, _, rest = text.partition("@")
    fields: dict[str, str] = {}
    for part in rest.split(":"):
        name, _, value = part.partition("=")
        fields[name] = value
    phase = fields.get("phase", "before_step")
    step = fields.get("step", "")
    if (
        action not in get_args(Action)
        or phase not in PHASES
        or not step.isdecimal()
        or fields.keys() - {"step", "phase"}
    ):
        raise UserError(
            f"JAXLM_FAULT={text!r}: expected action@step=N[:phase=P] with an action of "
            f"{', '.join(get_args(Action))} and "
            f"a phase of {', '.join(PHASES)}."
        )
    return Fault(action=action, step=int(step), phase=phase)  # type: ignore[arg-type]


_faults = parse(os.environ.get("JAXLM_FAULT", ""))


def at(phase: str, step: int) -> None:
    """Marks a moment of the run. Does nothing unless JAXLM_FAULT names it."""
    if _faults:
        for fault in _faults:
            if fault.phase == phase and fault.step == step:
                _strike(fault)


def nan(step: int) -> bool:
    """Whether step `step` must see a NaN."""
    return bool(_faults) and any(fault.action == "nan" and fault.step == step for fault in _faults)


def _strike(fault: Fault) -> None:
    if fault.action in _SIGNAL:
        os.kill(os.getpid(), _SIGNAL[fault.action])
    elif fault.action == "hang":
        threading.Event().wait()
    elif fault.action == "pause":
        signal.pause()
    elif fault.action == "error":
        raise OSError(errno.ENOSPC, f"injected fault at {fault.phase} of step {fault.step}")
