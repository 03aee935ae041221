"""What a person sees of a run. In: events and metrics of a step. Out: a live line on a terminal, plain lines
elsewhere, and both in `run.log`.

Guarantees: nothing but plain lines reaches a pipe or a file; every line names step and total; a full disk
under run.log does not stop training.
"""

import math
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

FILE = "run.log"


class Console:
    """Prints for the main process; `enabled=False` (other processes) prints nothing."""

    def __init__(
        self,
        workdir: str | os.PathLike | None,
        *,
        total_steps: int,
        enabled: bool = True,
        stream: TextIO | None = None,
        live: bool | None = None,
    ) -> None:
        self._stream = stream or sys.stdout
        self._total, self._enabled = total_steps, enabled
        self._live = self._stream.isatty() if live is None else live
        self._pending = ""
        self._file: TextIO | None = None
        if enabled and workdir is not None:
            Path(workdir).mkdir(parents=True, exist_ok=True)
            # A file's name may hold bytes that are not UTF-8.
            self._file = open(Path(workdir) / FILE, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115

    def say(self, text: str) -> None:
        """Prints a text of one or more lines."""
        if not self._enabled:
            return
        self._log(text)
        self._show(f"{self._wipe()}{text}\n{self._pending}")

    def line(self, step: int, metrics: Mapping[str, float], *, remaining_s: float = math.nan) -> None:
        """Shows the state of training: on a terminal in place of the last such line."""
        if not self._enabled:
            return
        text = format_line(step, self._total, metrics, remaining_s)
        self._log(text)
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._pending = text if len(text) <= width else text[: max(width - 1, 0)] + "…"
            self._show(f"{self._wipe()}{self._pending}")
        else:
            self._show(f"{text}\n")

    def close(self) -> None:
        """Leaves the last live line standing."""
        if self._pending:
            self._show("\n")
            self._pending = ""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _wipe(self) -> str:
        return "\r\x1b[2K" if self._pending or self._live else ""

    def _show(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._enabled = self._file is not None  # the reader of a pipe went away; run.log goes on

    def _log(self, text: str) -> None:
        if self._file is None:
            return
        try:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S ")
            self._file.write("".join(f"{stamp}{line}\n" for line in text.splitlines()))
            self._file.flush()
        except OSError:
            self._file = None


# Name in the metrics, label, format.
_SHOWN = (
    ("train/loss", "loss", lambda x: f"{x:.4f}"),
    ("train/mlm_accuracy", "accuracy", lambda x: f"{100 * x:.1f}%"),
    ("optim/learning_rate", "lr", lambda x: f"{x:.2e}"),
    ("optim/grad_norm", "grad", lambda x: f"{x:.3g}"),
    ("throughput/useful_tokens_per_second", "tok/s", lambda x: human(x)),
    ("throughput/mfu", "mfu", lambda x: f"{100 * x:.1f}%"),
    ("time/data_wait_share", "data wait", lambda x: f"{100 * x:.0f}%"),
)


def format_line(step: int, total: int, metrics: Mapping[str, float], remaining_s: float = math.nan) -> str:
    """`step 120/1000  loss 3.2114  ...  eta 1h02m`; what is not in `metrics` is left out."""
    parts = [f"step {step}/{total}"]
    parts += [f"{label} {show(metrics[name])}" for name, label, show in _SHOWN if name in metrics]
    if math.isfinite(remaining_s):
        parts.append(f"eta {duration(remaining_s)}")
    return "  ".join(parts)


def human(number: float) -> str:
    """1234567 as '1.23M'."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """3725 as '1h02m', 59 as '59s'."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole % 86400 // 3600, whole % 3600 // 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"
