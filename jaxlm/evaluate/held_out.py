"""The loss and accuracy on held-out rows. In: a jitted eval step, a maker of batches. Out: metrics by name.

Sums and weights are added on the device and divided once at the end, so the number of hosts, the batch size and the
padding of the last batch change nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Batches
from jaxlm.runtime import device_memory


def names(measures: dict[str, Any], sources: Iterable[str] = ("",)) -> list[str]:
    """The metrics that an eval step with these measures leads to, over all sources and for each that has a name."""
    own = ["loss", *(name for name in measures if not name.startswith("loss/"))]
    return [f"{at}/{name}" for at in dict.fromkeys(["eval", *map(_at, sources)]) for name in own]


class HeldOut:
    """Evaluates parameters on the same rows every time."""

    def __init__(
        self,
        eval_step: Callable[[Any, Any], dict],
        batches: Callable[[], Iterable[tuple[str, Batches]]],
        names: Sequence[str] = (),  # of the metrics that it gives, where they are known beforehand
    ) -> None:
        self._step, self.names = eval_step, names
        self._batches = batches  # each with the name of its source, "" where there is one only
        self._add = jax.jit(lambda total, new: jax.tree.map(jnp.add, total, new), donate_argnums=0)

    def __call__(self, weights: Any) -> dict[str, float]:
        """{"eval/loss": ..., "eval/<measure>": ...}, and the same of every source that has a name: "eval/<source>/...".

        loss is the sum of the objective's terms; over all sources, sums and weights are added.
        """
        totals: dict[tuple[str, ...], dict] = {}  # every task of several has batches and measures of its own
        for source, batch in self._batches():
            measures = device_memory.settled(self._step(weights, batch))
            key = (source, *measures)
            totals[key] = self._add(totals[key], measures) if key in totals else measures
        pairs: dict[str, dict[str, tuple[float, float]]] = {"eval": {}}
        for (source, *_), measures in jax.device_get(totals).items():
            for at in {"eval", _at(source)}:
                mine = pairs.setdefault(at, {})
                for name, (s, w) in measures.items():
                    before = mine.get(name, (0.0, 0.0))
                    mine[name] = (before[0] + float(s), before[1] + float(w))
        return {f"{at}/{name}": value for at, mine in pairs.items() for name, value in _means(mine).items()}


def _at(source: str) -> str:
    return f"eval/{source}" if source else "eval"


def _means(pairs: dict[str, tuple[float, float]]) -> dict[str, float]:
    means = {name: s / w for name, (s, w) in sorted(pairs.items()) if w > 0}
    loss = sum(value for name, value in means.items() if name.startswith("loss/"))
    return {"loss": loss, **{name: value for name, value in means.items() if not name.startswith("loss/")}}
