"""Sums measures between log lines. In: (sum, weight) pairs of every step, on the devices. Out: a Line per log
period.

The pairs of a step are read `lag` steps later, when they are there already, so that the host never waits for
the step it just dispatched. Guarantees: a line covers exactly its steps; sums are float64 in step order, and
`state` survives JSON unchanged, so that a resumed run logs the same bits.
"""

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """The measures of the steps after the previous line, up to and including `step`."""

    step: int
    steps: int  # how many steps it covers
    means: dict[str, float]  # sum/weight over all its steps; measures whose weight is 0 are left out
    sums: dict[str, float]  # numerators over all its steps, for counts (useful tokens)
    last: dict[str, float]  # sum/weight of the last step that had weight, for rates and counters


class Meter:
    """Accumulates measures and cuts them into lines, one at every multiple of `every_steps`."""

    def __init__(self, every_steps: int, *, lag: int = 2) -> None:
        self._every, self._lag = every_steps, lag
        self._unread: deque[tuple[int, Mapping[str, Any]]] = deque()
        self._newest: dict[str, float] = {}
        self.read_to = 0  # the newest step that was read
        self._clear()

    def add(self, step: int, measures: Mapping[str, tuple[Any, Any]]) -> list[Line]:
        """Takes the measures of a step (the first is 1); returns the lines that are complete by now."""
        self._unread.append((step, measures))
        return self._read(self._lag)

    def drain(self) -> list[Line]:
        """Waits for everything that was added; call before an evaluation, a checkpoint and at the end."""
        return self._read(0)

    def cut(self) -> Line | None:
        """A line of what is left over, or None: for the end of a run that is no multiple of `every_steps`."""
        assert not self._unread, "drain first"
        return self._line() if self._steps else None

    def last(self, name: str) -> float | None:
        """The newest value that was read of a measure, `lag` steps old at most; None before there is one."""
        return self._newest.get(name)

    def state(self) -> dict[str, Any]:
        """JSON for the checkpoint: the sums since the last line. Drain first."""
        assert not self._unread, "drain first"
        return {
            "step": self._step,
            "steps": self._steps,
            "sums": {k: list(v) for k, v in self._sums.items()},
            "last": dict(self._last),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continues from `state()`."""
        self._unread.clear()
        self._step, self._steps = state["step"], state["steps"]
        self._sums = {k: (v[0], v[1]) for k, v in state["sums"].items()}
        self._last = dict(state["last"])

    def _read(self, keep: int) -> list[Line]:
        lines = []
        while len(self._unread) > keep:
            step, measures = self._unread.popleft()
            self._accumulate(step, jax.device_get(measures))
            self.read_to = step
            if step % self._every == 0:
                lines.append(self._line())
        return lines

    def _accumulate(self, step: int, measures: Mapping[str, tuple[Any, Any]]) -> None:
        for name, (total, weight) in measures.items():
            total, weight = float(total), float(weight)
            before = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (before[0] + total, before[1] + weight)
            if weight:
                self._last[name] = self._newest[name] = total / weight
        self._step, self._steps = step, self._steps + 1

    def _line(self) -> Line:
        line = Line(
            step=self._step,
            steps=self._steps,
            means={name: total / weight for name, (total, weight) in self._sums.items() if weight},
            sums={name: total for name, (total, _) in self._sums.items()},
            last=dict(self._last),
        )
        self._clear()
        return line

    def _clear(self) -> None:
        self._step = self._steps = 0
        self._sums: dict[str, tuple[float, float]] = {}
        self._last: dict[str, float] = {}
