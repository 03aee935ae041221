"""A weight that is trained, and what it was before. In: two arrays of one shape. Out: a `Value`, which is the first."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.models.dense import dense
from jaxlm.models.values import AsArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moved(AsArray):
    """Stands for `now`."""

    now: jax.Array
    first: jax.Array

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """As the array."""
        return dense(x, self.now, contracted=contracted, result=result)

    def rows(self, ids: Any) -> jax.Array:
        """As the array."""
        return self.now[ids]

    def full(self) -> jax.Array:
        """What it is now."""
        return self.now

    def start(self) -> jax.Array:
        """What it was."""
        return self.first

    @property
    def T(self) -> "Moved":
        """Both."""
        return Moved(self.now.T, self.first.T)
