"""The loss and accuracy on held-out rows. In: a jitted eval step, a maker of batches. Out: metrics by name.

Sums and weights are added on the device and divided once at the end, so the number of hosts, the batch size and the
padding of the last batch change nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Batches


def names(measures: dict[str, Any]) -> list[str]:
    """The metrics that an eval step with these measures leads to."""
    return ["eval/loss", *(f"eval/{name}" for name in measures if not name.startswith("loss/"))]


class HeldOut:
    """Evaluates parameters on the same rows every time."""

    def __init__(
        self,
        eval_step: Callable[[Any, Any], dict],
        batches: Callable[[], Iterable[Batches]],
        names: Sequence[str] = (),  # of the metrics that it gives, where they are known beforehand
    ) -> None:
        self._step, self.names = eval_step, names
        self._batches = batches
        self._add = jax.jit(lambda total, new: jax.tree.map(jnp.add, total, new), donate_argnums=0)

    def __call__(self, params: Any) -> dict[str, float]:
        """{"eval/loss": ..., "eval/<measure>": ...}; eval/loss is the sum of the objective's terms."""
        totals: dict[tuple[str, ...], dict] = {}  # every task of several has batches and measures of its own
        for batch in self._batches():
            measures = self._step(params, batch)
            names = tuple(measures)
            totals[names] = self._add(totals[names], measures) if names in totals else measures
        sums = jax.device_get({k: pair for measures in totals.values() for k, pair in measures.items()})
        pairs = {name: (float(s), float(w)) for name, (s, w) in sums.items()}
        means = {name: s / w for name, (s, w) in pairs.items() if w > 0}
        loss = sum(value for name, value in means.items() if name.startswith("loss/"))
        return {"eval/loss": loss, **{f"eval/{k}": v for k, v in means.items() if not k.startswith("loss/")}}
