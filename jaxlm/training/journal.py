"""What a run measured, on its way to files and people. In: measures of steps and evaluations. Out: log lines.

One line per step at most: an evaluation joins the line of its step. Rates leave out what was excluded (evaluating,
saving) and what a clock did not see (the steps before a resume, or of the last stage). Its state survives JSON, so that
a resumed run writes the same lines.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

from jaxlm.monitor.console import Console
from jaxlm.monitor.forecast import Forecast
from jaxlm.monitor.meter import Line, Meter
from jaxlm.monitor.metrics import Writer
from jaxlm.monitor.throughput import Throughput

# A counter or rate is reported as it was in the last step, everything else as the mean over the line's steps.
_LAST = {"learning_rate": "optim/learning_rate", "skipped_steps": "train/skipped_steps"}
_MEAN = {"grad_norm": "optim/grad_norm"}
_DOING = {"evaluation": "evaluating", "save": "saving"}
_HIDDEN = {"useful_tokens", "skipped_in_a_row"}


def named(line: Line) -> dict[str, float]:
    """The metrics of a log line under their documented names (docs/metrics.md)."""
    metrics = {}
    for name, mean in line.means.items():
        if name in _LAST:
            metrics[_LAST[name]] = line.last[name]
        elif name not in _HIDDEN:
            metrics[_MEAN.get(name, f"train/{name}")] = mean
    metrics["train/useful_tokens_per_step"] = line.sums["useful_tokens"] / line.steps
    return metrics


def _held_out(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name == "eval/loss"}


class Journal:
    """Follows one start of a run."""

    def __init__(self, writer: Writer, console: Console, *, every_steps: int, forecast: Forecast) -> None:
        self._writer, self._console, self._forecast = writer, console, forecast
        self._meter = Meter(every_steps)
        self._throughput = Throughput(flops_per_step=0.0, peak=None)
        self._unclocked = (0, 0.0)  # steps and useful tokens of the next line that its clock did not see
        self._held_out: dict[str, float] = {}  # the newest loss
        self._done = (0, 0.0)  # steps and useful tokens of the lines of this start
        self._timed = (0.0, 0.0)  # useful tokens and seconds that were timed in it

    def state(self) -> dict[str, Any]:
        """JSON for the checkpoint. Catch up first."""
        return self._meter.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continues from `state()`."""
        self._meter.restore(state)
        steps, tokens = self._waiting()
        self._done = (-steps, -tokens)

    def begins(self, stage: int) -> None:
        """A stage is prepared, which takes until `start_clock`."""
        self.catch_up()
        self._forecast.begins(stage)
        self._console.doing("compiling")

    def start_clock(self, flops_per_step: float, peak: float | None, *, held_out: float) -> None:
        """The steps of a stage begin: rates count from here. `held_out`: tokens in all held-out rows."""
        self._forecast.began(held_out)
        self._console.doing("")
        self._throughput = Throughput(flops_per_step=flops_per_step, peak=peak)
        # The next line may hold steps from before this clock started: a resumed run's, or the last stage's.
        self._unclocked = self._waiting()

    def step(self, step: int, measures: Any) -> None:
        """Takes the measures of a step; writes the lines that are complete by now."""
        self._write(self._read(self._meter.add(step, measures)))

    def waited(self, seconds: float) -> None:
        """The loop waited that long for data."""
        self._throughput.waited(seconds)

    @contextlib.contextmanager
    def excluded(self, kind: Literal["evaluation", "save"]) -> Iterator[None]:
        """Time that does not count."""
        self._console.doing(_DOING[kind])
        with self._throughput.excluded(), self._forecast.pause(kind):
            yield
        self._console.doing("")

    def catch_up(self) -> None:
        """Waits for every step so far, and writes its lines."""
        self._write(self.drain())

    def drain(self) -> list[Line]:
        """The lines of every step so far, for `evaluated`: an evaluation waits for the steps before it."""
        return self._read(self._meter.drain())

    def evaluated(self, step: int, lines: list[Line], metrics: dict[str, float], *, last: bool) -> None:
        """Writes `lines`, and with that of `step` the metrics of an evaluation; `last` writes what is left over."""
        if last and (rest := self._meter.cut()):
            lines.append(rest)
        self._write(lines, at=step, extra=metrics)

    def flush(self) -> bool:
        """Whether everything that was written is on disk."""
        return self._writer.flush()

    def written(self) -> dict[str, Any]:
        """What identifies the lines so far, for the checkpoint. Flush first."""
        return self._writer.written()

    def last(self, name: str) -> float | None:
        """The newest value of a measure."""
        return self._meter.last(name)

    @property
    def read_to(self) -> int:
        """The newest step whose measures are known."""
        return self._meter.read_to

    def trained(self) -> tuple[int, float, float]:
        """(steps, useful tokens, useful tokens per second of training) of this start. Catch up first."""
        (steps, tokens), (waiting, their_tokens) = self._done, self._waiting()
        timed, seconds = self._timed
        return steps + waiting, tokens + their_tokens, timed / seconds if seconds else 0.0

    def _waiting(self) -> tuple[int, float]:
        """Steps and useful tokens of the next line so far."""
        state = self._meter.state()
        return state["steps"], state["sums"].get("useful_tokens", (0.0, 0.0))[0]

    def _read(self, lines: list[Line]) -> list[Line]:
        self._forecast.stepped(self.read_to)
        self._console.at(self._forecast.step, self._forecast.remaining_s())
        return lines

    def _write(self, lines: list[Line], *, at: int = 0, extra: dict[str, float] | None = None) -> None:
        """Writes log lines; `extra` joins the line of step `at`, so that every step has one line at most."""
        extra, rates = dict(extra or {}), self._rates(lines)
        for line in lines:
            metrics = {**named(line), **rates}
            joined = extra if line.step == at else {}
            self._held_out |= _held_out(joined)
            self._writer.write(line.step, {**metrics, **joined})
            remaining = self._forecast.remaining_s()
            self._console.line(line.step, {**metrics, **self._held_out}, remaining_s=remaining)
            if joined:
                extra = {}
        if extra:
            self._held_out |= _held_out(extra)
            self._writer.write(at, extra)

    def _rates(self, lines: list[Line]) -> dict[str, float]:
        """Rates over all lines that came due together."""
        if not lines:
            return {}
        steps = sum(line.steps for line in lines)
        tokens = sum(line.sums["useful_tokens"] for line in lines)
        self._done = (self._done[0] + steps, self._done[1] + tokens)
        steps, tokens = steps - self._unclocked[0], tokens - self._unclocked[1]
        self._unclocked = (0, 0.0)
        rates = self._throughput.read(steps=steps, useful_tokens=tokens)
        if rates:
            self._timed = (self._timed[0] + tokens, self._timed[1] + steps * rates["time/step_s"])
        return rates
