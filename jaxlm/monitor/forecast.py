"""How long a run still takes. In: its stages, and how long steps and pauses took so far. Out: seconds.

What was not seen yet is estimated from what was: the steps of a coming stage from their cost beside that of the steps
that were timed, an evaluation from a forward pass of its tokens, what it compiles from what the training step did.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence

_FORWARD = 1 / 3  # of a training step, in computing and in compiling
# The share of the run's steps after which a timing has faded to 1/e: what else runs on the machine comes and goes.
_MEMORY = 0.1
_LITTLE = 0.1  # what the timings of a stage count in the next, and its first steps, which are slow, later on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leg:
    """A stage: steps [first, last), each of so many tokens and of this cost, in a unit that all stages share."""

    first: int
    last: int
    tokens: int
    cost: float
    evaluated: float = math.inf  # tokens of an evaluation, at most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Due:
    """When a run is interrupted: after every multiple of these (0: never), and after its last step."""

    evaluation: int
    save: int = 0
    save_s: float = 0.0
    save_best: bool = False  # after evaluations, too

    def evaluations(self, after: int, last: int) -> int:
        """In the steps (after, last]."""
        return _multiples(self.evaluation, after, last)

    def saves(self, after: int, last: int, seconds: float) -> float:
        """In these steps, which take so long."""
        known = _multiples(self.save, after, last)
        if self.save_best:
            both = math.lcm(self.save, self.evaluation)
            known += self.evaluations(after, last) - _multiples(both, after, last)
        return max(known, seconds / self.save_s if self.save_s else 0.0)


def planned_s(
    legs: Sequence[Leg],
    due: Due,
    step_s: Sequence[float],
    starting_s: Sequence[float],
    held_out: Sequence[float],
) -> float:
    """Seconds of a whole run, without its saves, given what was measured of every stage before any was trained.

    A step, what precedes the first (packing, compiling), and the tokens of all held-out rows.
    """
    total = 0.0
    for leg, step, starting, tokens in zip(legs, step_s, starting_s, held_out, strict=True):
        times = due.evaluations(leg.first, leg.last)
        times += leg is legs[-1] and leg.last % due.evaluation > 0
        evaluation = _FORWARD * step * min(tokens, leg.evaluated) / leg.tokens
        total += step * (leg.last - leg.first) + starting + times * evaluation
        total += _FORWARD * starting * (times > 0)
    return total


class Forecast:
    """Follows one start of a run, from step `start`. `step`: the last that is known to be done."""

    def __init__(
        self, legs: Sequence[Leg], due: Due, *, start: int = 0, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._legs, self._due, self._now = legs, due, now
        self._number, self.step, self._evaluated_at, self._saved_at = 0, start, start, start
        self._held_out = 0.0  # tokens there are
        self._since, self._paused, self._counts = now(), 0.0, 1.0
        self._seconds = self._cost = 0.0  # of the steps that were timed
        self._starting_s = math.nan  # of the last stage: packing, compiling
        self._per_token_s = math.nan  # of an evaluation, for a cost of 1 per training token
        self._first_s = math.nan  # what the first evaluation of a stage took beyond that
        self._evaluated: set[int] = set()  # stages
        self._save_s = 0.0

    def begins(self, number: int) -> None:
        """A stage is being prepared."""
        self._number, self._since, self._paused = number, self._now(), 0.0

    def began(self, held_out: float) -> None:
        """The first step comes next; there are so many tokens in all held-out rows."""
        self._starting_s, self._held_out = self._now() - self._since, held_out
        self._seconds, self._cost = _LITTLE * self._seconds, _LITTLE * self._cost
        self._since, self._paused, self._counts = self._now(), 0.0, _LITTLE

    def stepped(self, step: int) -> None:
        """The steps up to this one are known to be done."""
        if step <= self.step:
            return
        now, steps = self._now(), step - self.step
        run = self._legs[-1].last - self._legs[0].first
        kept = math.exp(-steps / max(_MEMORY * run, 1.0))
        self._seconds = kept * self._seconds + self._counts * (now - self._since - self._paused)
        self._cost = kept * self._cost + self._counts * steps * self._legs[self._number].cost
        self.step, self._since, self._paused, self._counts = step, now, 0.0, 1.0

    @contextlib.contextmanager
    def pause(self, kind: str) -> Iterator[None]:
        """Time that is no step's; of it, evaluations and saves are expected again."""
        start = self._now()
        try:
            yield
        finally:
            took = self._now() - start
            self._paused += took
            if kind == "evaluation":
                self._learn_evaluation(took)
            elif kind == "save":
                self._saved_at, self._save_s = self.step, took

    def remaining_s(self) -> float:
        """Seconds from the last step that is known to be done to the end of the run; NaN before the first."""
        if not self._cost:
            return math.nan
        total, pace = 0.0, self._seconds / self._cost
        for number, leg in enumerate(self._legs[self._number :], self._number):
            total += pace * leg.cost * (leg.last - max(leg.first, self.step))
            total += self._starting_s * (number > self._number)
            times = self._due.evaluations(max(leg.first, self._evaluated_at), leg.last)
            if leg is self._legs[-1] and self._evaluated_at < leg.last and leg.last % self._due.evaluation:
                times += 1
            total += times * self._evaluation_s(leg, pace)
            total += self._compiling_s() * (times > 0 and number not in self._evaluated)
        last = self._legs[-1].last
        return total + self._save_s * (1 + self._due.saves(max(self._saved_at, self.step), last - 1, total))

    def _learn_evaluation(self, took: float) -> None:
        leg, pace = self._legs[self._number], self._seconds / self._cost if self._cost else math.nan
        if self._number in self._evaluated:
            self._per_token_s = took / max(self._units(leg), 1e-9)
        else:
            expected = self._evaluation_s(leg, pace)
            self._first_s = took if math.isnan(expected) else max(took - expected, 0.0)
        self._evaluated.add(self._number)
        self._evaluated_at = self.step

    def _evaluation_s(self, leg: Leg, pace: float) -> float:
        """Without what the first of a stage compiles."""
        per_token = self._per_token_s if math.isfinite(self._per_token_s) else _FORWARD * pace
        return per_token * self._units(leg)

    def _units(self, leg: Leg) -> float:
        return min(self._held_out, leg.evaluated) / leg.tokens * leg.cost

    def _compiling_s(self) -> float:
        return self._first_s if math.isfinite(self._first_s) else _FORWARD * self._starting_s


def _multiples(of: int, after: int, last: int) -> int:
    return max(last // of - after // of, 0) if of else 0
