"""Which checkpoints stay and when the next one is due. In: steps, metrics, a clock. Out: decisions, no
input/output.

Guarantees: the newest step is never removed; the decisions depend on their arguments only.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Literal

from jaxlm.errors import UserError


@dataclasses.dataclass(kw_only=True)
class Keep:
    """Which checkpoints are kept; a step stays when any of the three rules wants it."""

    latest: int = 2  # of the newest; two, as the newest may be damaged, or made just before training diverges
    every_steps: int = 0  # each multiple of this for good; 0: none
    best: int = 1  # that many with the best `best_metric` stay, and a new best is saved at once; 0: neither
    best_metric: str = "eval/loss"  # of metrics.jsonl, such as eval/loss or eval/mlm_accuracy
    best_mode: Literal["min", "max"] = "min"  # whether a smaller or a larger value is better

    def validate(self, where: str) -> None:
        """Checks the counts."""
        if self.latest < 1:
            raise UserError(
                f"{where}.latest={self.latest}: at least 1; a run must keep the step it resumes from."
            )
        for name in ("every_steps", "best"):
            if getattr(self, name) < 0:
                raise UserError(f"{where}.{name}={getattr(self, name)}: 0 (off) or more.")

    def score(self, metrics: Mapping[str, float]) -> float:
        """`best_metric`, turned so that lower is better; NaN where it is absent."""
        value = metrics.get(self.best_metric, math.nan)
        return value if self.best_mode == "min" else -value

    def count(self) -> int:
        """How many checkpoints are on disk at most, `every_steps` aside, during a save."""
        return self.latest + self.best + 1


def kept_steps(metrics_by_step: Mapping[int, Mapping[str, float]], keep: Keep) -> set[int]:
    """The steps to keep out of all steps on disk, each given with its metrics ({} where there are none)."""
    steps = sorted(metrics_by_step)
    kept = set(steps[-keep.latest :])
    if keep.every_steps:
        kept |= {s for s in steps if s % keep.every_steps == 0}
    return kept | set(best_first(metrics_by_step, keep)[: keep.best])


def best_first(metrics_by_step: Mapping[int, Mapping[str, float]], keep: Keep) -> list[int]:
    """The steps that have the metric, best first, the older of equals before the newer."""
    scored = [(keep.score(metrics), step) for step, metrics in metrics_by_step.items()]
    return [step for score, step in sorted(pair for pair in scored if not math.isnan(pair[0]))]


# Hosts agree on a clock's answer only every so many steps: agreeing may wait for the devices.
AGREE_EVERY = 20


class SaveClock:
    """Answers "is a checkpoint due after this step?", by steps and by minutes (0 switches a rule off).

    `agree` makes all hosts follow the main one's clock (runtime.distributed.agree); it may synchronise, so it
    is asked only every `agree_every` steps.
    """

    def __init__(
        self,
        *,
        every_steps: int,
        every_minutes: float,
        agree: Callable[[bool], bool] | None = None,
        agree_every: int = AGREE_EVERY,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_steps, self._seconds = every_steps, 60.0 * every_minutes
        self._agree, self._agree_every, self._now = agree, agree_every, now
        self._last = now()

    def due(self, step: int) -> bool:
        """Whether to save now, after `step` steps."""
        if self._every_steps and step % self._every_steps == 0:
            return True
        if not self._seconds:
            return False
        over = self._now() - self._last >= self._seconds
        if self._agree is None:
            return over
        return step % self._agree_every == 0 and self._agree(over)

    def saved(self) -> None:
        """Starts the minutes again; call it after each save."""
        self._last = self._now()
