"""Noise on embeddings while training. In: an objective. Out: the same, whose model reads disturbed embeddings.

objective = Neftune(of=objective, alpha=5.0)
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Loss
from jaxlm.objectives import disturbed
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.wrapped import Wrapped, check_at_least, refuse_pairs

_NOISE = 11  # fold of a pass's key: dropout has split it


class _Noisy(Wrapped):
    def noise(self, x: Any, batch: Batch, key: Array) -> Any:
        """What is added, float32."""
        raise NotImplementedError

    def check_model(self, model: Any, where: str) -> None:
        """A generator and a discriminator embed each by itself."""
        refuse_pairs(self, model, where)
        super().check_model(model, where)

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """Of disturbed embeddings, where there is a key."""
        return self.of.predict(self._noisy(model), batch, key)

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Of disturbed embeddings, where there is a key."""
        return self.of.loss(self._noisy(model), batch, key)

    def _noisy(self, model: Any) -> disturbed.Disturbed:
        def change(x: Any, batch: Batch, key: Array | None) -> Any:
            if key is None:
                return x
            noise = self.noise(x, batch, jax.random.fold_in(key, _NOISE))
            return jax.tree.map(lambda x, r: (x.astype(jnp.float32) + r).astype(x.dtype), x, noise)

        return disturbed.Disturbed(model, change)


@dataclasses.dataclass(kw_only=True)
class Neftune(_Noisy):
    """Jain et al., 2310.05914: uniform noise of alpha / sqrt(L D) for items of L tokens. Published: 5 to 15, for
    instructions."""

    alpha: float  # size of the noise; published: 5, 10 or 15

    def validate(self, where: str) -> None:
        """UserError for a negative size."""
        check_at_least(self, where, 0.0, "alpha")

    def noise(self, x: Any, batch: Batch, key: Array) -> Any:
        """Uniform in +-alpha / sqrt(L D)."""
        uniform = lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)
        return disturbed.spread(disturbed.drawn(uniform, key, x), self.alpha, batch)


@dataclasses.dataclass(kw_only=True)
class GaussianNoise(_Noisy):
    """Independent normal noise on every entry of the embeddings."""

    scale: float  # standard deviation; embeddings behind a layer norm have about 1

    def validate(self, where: str) -> None:
        """UserError for a negative size."""
        check_at_least(self, where, 0.0, "scale")

    def noise(self, x: Any, batch: Batch, key: Array) -> Any:
        """N(0, scale^2)."""
        return jax.tree.map(lambda u: self.scale * u, disturbed.drawn(jax.random.normal, key, x))
