"""What a person sees of a run. In: events and metrics of a step. Out: a live line on a terminal or in a notebook, plain
lines elsewhere, and these in `run.log`.

Guarantees: nothing but plain lines reaches a pipe or a file; every line names step and total; the live line begins with
the time that went by and the time that is left, whatever the width; a full disk under run.log does not stop training.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from jaxlm.monitor import live

FILE = "run.log"


class Console:
    """Prints for the main process; `enabled=False` (other processes) prints nothing."""

    def __init__(
        self,
        workdir: str | os.PathLike | None,
        *,
        total_steps: int = 0,
        enabled: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._stream = stream or sys.stdout
        self.total_steps, self._enabled = total_steps, enabled
        self._live: live.Live | None = None
        self._may_live = enabled and live.possible(self._stream)
        self._start, self._step, self._doing = time.perf_counter(), 0, ""
        self._end = math.nan  # when the run is expected to be over
        self._metrics: Mapping[str, float] = {}
        self._file: TextIO | None = None
        if enabled and workdir is not None:
            Path(workdir).mkdir(parents=True, exist_ok=True)
            # A file's name may hold bytes that are not UTF-8.
            self._file = open(Path(workdir) / FILE, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115

    @property
    def elapsed_s(self) -> float:
        """Seconds since this was made."""
        return time.perf_counter() - self._start

    def say(self, text: str) -> None:
        """Prints a text of one or more lines, on a terminal above the live line."""
        if self._enabled:
            self._log(text)
            self._show(text)

    def line(self, step: int, metrics: Mapping[str, float], *, remaining_s: float = math.nan) -> None:
        """Takes the metrics of a log line: the live line has them from now on; elsewhere a line of text."""
        if not self._enabled:
            return
        self._metrics, text = metrics, format_line(step, self.total_steps, metrics, remaining_s)
        self._log(text)
        if self._live is None:
            self._show(text)

    def at(self, step: int, remaining_s: float) -> None:
        """How far the run is, and how long it still takes (NaN: not known). It costs two assignments."""
        self._step, self._end = step, time.perf_counter() + remaining_s

    def doing(self, what: str) -> None:
        """What the live line says is done instead of training, until told ""; the first call starts the line."""
        self._doing = what
        if self._may_live and self._live is None:
            self._guarded(self._begin)

    def rest(self) -> None:
        """The live line is left as it stands; what is said from here on comes below it."""
        self._may_live = False
        if self._live is not None:
            ended, self._live = self._live, None
            self._guarded(ended.stop)

    def close(self) -> None:
        """Ends the live line and run.log."""
        self.rest()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._live = live.Live(self._stream, self._line)

    def _line(self, width: int) -> live.Line:
        left = max(self._end - time.perf_counter(), 0.0) if math.isfinite(self._end) else math.nan
        return fitted(
            self._parts(), width, times=times(self.elapsed_s, left), done=self._step / self.total_steps
        )

    def _parts(self) -> list[str]:
        return [*filter(None, [self._doing]), *_parts(self._step, self.total_steps, self._metrics)]

    def _show(self, text: str) -> None:
        def show() -> None:
            if self._live is not None:
                self._live.say(text)
                return
            self._stream.write(f"{text}\n")
            self._stream.flush()

        self._guarded(show)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
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
    ("eval/loss", "held-out", lambda x: f"{x:.4f}"),
    ("train/lm_loss", "perplexity", lambda x: f"{math.exp(min(x, 99.0)):.4g}"),
    ("train/mlm_accuracy", "accuracy", lambda x: f"{100 * x:.1f}%"),
    ("optim/learning_rate", "lr", lambda x: f"{x:.2e}"),
    ("optim/grad_norm", "grad", lambda x: f"{x:.3g}"),
    ("throughput/useful_tokens_per_second", "tok/s", lambda x: human(x)),
    ("throughput/mfu", "mfu", lambda x: f"{100 * x:.1f}%"),
    ("time/data_wait_share", "data wait", lambda x: f"{100 * x:.0f}%"),
)


def format_line(step: int, total: int, metrics: Mapping[str, float], remaining_s: float = math.nan) -> str:
    """`step 120/1000  loss 3.2114  ...  eta 1h02m`; what is not in `metrics` is left out."""
    eta = [f"eta {duration(remaining_s)}"] if math.isfinite(remaining_s) else []
    return "  ".join([*_parts(step, total, metrics), *eta])


def _parts(step: int, total: int, metrics: Mapping[str, float]) -> list[str]:
    shown = [f"{label} {show(metrics[name])}" for name, label, show in _SHOWN if name in metrics]
    return [f"step {step}/{total}", *shown]


def times(elapsed_s: float, left_s: float) -> str:
    """`1m02s, 3m10s left`."""
    return f"{duration(elapsed_s)}, {duration(left_s) if math.isfinite(left_s) else '?'} left"


def fitted(parts: Sequence[str], width: int, *, times: str, done: float) -> live.Line:
    """The times, then a bar, then as many parts as fit; what does not is dropped from the right, the times last."""
    bar = max(6, width // 8)
    if len(times) + 2 + bar > width:
        return live.Line(times, 0, 0, "")
    full, rest = round(bar * min(done, 1.0)), ""
    for part in parts:
        if len(times) + 2 + bar + len(rest) + 2 + len(part) > width:
            break
        rest += f"  {part}"
    return live.Line(times, full, bar - full, rest)


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
