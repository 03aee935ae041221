"""Best so far, and when to give up. In: the metrics of every evaluation. Out: whether it is the best, whether to stop.

Its state survives JSON, so that a resumed run stops where the uninterrupted one would have.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from jaxlm.checkpoint.policy import Keep
from jaxlm.errors import UserError, did_you_mean


class EarlyStopping:
    """Follows `keep.best_metric`; with patience 0 it never stops a run."""

    def __init__(self, keep: Keep, patience: int) -> None:
        self._keep, self._patience = keep, patience
        self._best: float | None = None
        self._stale = 0
        self._followed = f"{keep.best_mode} {keep.best_metric}"
        self.evaluated_at: int | None = None

    def check(self, names: Iterable[str]) -> None:
        """UserError when the metric is not among those that an evaluation gives."""
        names, name = list(names), self._keep.best_metric
        if name not in names:
            raise UserError(
                f"config.checkpoint.keep.best_metric={name!r} is not measured; known: {', '.join(sorted(names))}."
                f"{did_you_mean(name, names)}"
            )

    def update(self, step: int, metrics: dict[str, float]) -> bool:
        """Takes an evaluation; True when it is the best so far. One that does not measure the metric counts nothing."""
        if self._keep.best_metric not in metrics:
            return False
        value = self._keep.score(metrics)
        better = not math.isnan(value) and (self._best is None or value < self._best)
        self._best, self._stale = (value, 0) if better else (self._best, self._stale + 1)
        self.evaluated_at = step
        return better

    @property
    def over(self) -> bool:
        """Whether patience is exhausted."""
        return self._patience > 0 and self._stale >= self._patience

    def state(self) -> dict[str, Any]:
        """JSON for the checkpoint."""
        return {"best": self._best, "stale": self._stale, "followed": self._followed}

    def restore(self, state: dict[str, Any], *, say: Callable[[str], None]) -> None:
        """Continues from `state()`; where that followed another metric, the best starts anew, which `say` is told."""
        before = state.get("followed", self._followed)
        if before == self._followed:
            self._best, self._stale = state["best"], state["stale"]
        else:
            say(
                f"the best checkpoint was that of {before}, now it is that of {self._followed}: it starts anew"
            )

    def __str__(self) -> str:
        return f"{self._stale} evaluations without a better {self._keep.best_metric}"
