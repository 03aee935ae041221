"""Held near other weights: those of the start, or an average of those so far. In: an objective. Out: the same, pulled.

    objective = Mixout(of=objective, rate=0.7)         # with view=(KeepStart(),)
    objective = Proximal(of=objective, weight=1.0)     # with ema_decay=0.999

The other weights stand beside those of now (models/moved.py): `KeepStart` puts them there, or the step, which has the
average. Evaluation, which has no key, sees neither.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Loss
from jaxlm.errors import UserError
from jaxlm.models import values
from jaxlm.models.moved import Moved
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.wrapped import Wrapped, check_at_least

_MASKS = 13  # fold of a pass's key: dropout has split it


@dataclasses.dataclass(kw_only=True)
class Mixout(Wrapped):
    """Lee et al., 1909.11299: dropout towards the weights u of the start. In every pass each entry of a matrix is
    that of u with probability `rate`; the others are (w - rate u) / (1 - rate), so that the mean is the weight.

    Published: 0.7 to 0.9. Of matrices and tables below the heads; heads, biases and norms are as they are.
    """

    rate: float  # probability that an entry is that of the start; published: 0.7 to 0.9

    def validate(self, where: str) -> None:
        """UserError for a rate that leaves nothing."""
        if not 0.0 <= self.rate < 1.0:
            raise UserError(f"{where}.rate={self.rate}: allowed is 0 to below 1 (published: 0.7 to 0.9).")

    def check_view(self, view: Sequence[Any], where: str) -> None:
        """The start must be at hand."""
        if not (view and type(view[-1]).__name__ == "KeepStart"):
            raise UserError(
                f"{where}={tuple(view)}: Mixout mixes with the weights of the start, and nothing keeps them. Fix: "
                f'"--{where}=(KeepStart(),)".'
            )
        super().check_view(view, where)

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """Of mixed weights, where there is a key."""
        return self.of.predict(self._mixed(model, key), batch, key)

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Of mixed weights, where there is a key."""
        return self.of.loss(self._mixed(model, key), batch, key)

    def _mixed(self, model: Any, key: Array | None) -> Any:
        if key is None:
            return model
        found, made = jax.tree_util.tree_flatten_with_path(model, is_leaf=values.is_value)
        keys = jax.random.split(jax.random.fold_in(key, _MASKS), len(found))
        mixed = [self._of(path, node, own) for (path, node), own in zip(found, keys, strict=True)]
        return jax.tree.unflatten(made, mixed)

    def _of(self, path: Any, node: Any, key: Array) -> Any:
        if not isinstance(node, Moved) or node.now.ndim < 2 or "heads" in jax.tree_util.keystr(path):
            return node
        started = jax.random.bernoulli(key, self.rate, node.now.shape)
        moved = (node.now - self.rate * node.first) / (1.0 - self.rate)
        return Moved(jnp.where(started, node.first, moved), node.first)


@dataclasses.dataclass(kw_only=True)
class Proximal(Wrapped):
    """Jiang et al., 1911.03437, section 3.2 (the Bregman term of SMART): `weight` times the symmetric divergence
    between what the model says and what the average of its weights says, whose decay is `ema_decay` of the run.

    Published: weight 1, decay 0.99 for the first tenth of the steps, then 0.999 (here it grows to `ema_decay`). Around
    `Smart` both parts of the method. The average has no dropout and gets no gradient. A step costs a forward pass more.
    """

    needs_average: ClassVar[bool] = True

    weight: float  # of the divergence; published: 1

    def validate(self, where: str) -> None:
        """UserError for a negative weight."""
        check_at_least(self, where, 0.0, "weight")

    def weights(self, batch: Batch) -> dict[str, Array]:
        """The divergence of an output counts what its loss counts."""
        inner = self.of.weights(batch)
        own = self.of.inner.weights(batch)
        return {**inner, **{f"{name}_near": weight for name, weight in own.items()}}

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """That of the objective inside, and how far from the average it speaks."""
        plain = super().loss(model, batch, key)
        if key is None:
            return plain
        inner = self.of.inner
        now, near = inner.predict(model, batch, key), inner.predict(values.before(model), batch, None)
        apart = inner.apart(now, near)
        if not apart:
            raise UserError(f"Proximal around {type(inner).__name__}: it has no classes that could be kept.")
        terms = {f"{name}_near": (self.weight * total, weight) for name, (total, weight) in apart.items()}
        shown = {f"{name}_near": pair for name, pair in apart.items()}
        return Loss({**plain.terms, **terms}, {**plain.measures, **shown})
