"""A weight that is trained whole and read rounded. In: an array, how it will be held. Out: a `Value`.

Guaranteed: the numbers are those of `quantised.encode`; the gradient is that of the array (straight-through).
"""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxlm.models import quantised
from jaxlm.models.dense import dense
from jaxlm.models.quantised import Activations, Kind
from jaxlm.models.values import AsArray


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StraightThrough(AsArray):
    """Stands for the rounded array."""

    now: jax.Array
    blocks: tuple[int, ...] = dataclasses.field(
        metadata={"static": True}
    )  # with those of all layers in front
    kind: Kind = dataclasses.field(metadata={"static": True})
    low: bool = dataclasses.field(metadata={"static": True})
    activations: Activations = dataclasses.field(metadata={"static": True})
    dtype: Any = dataclasses.field(
        default=jnp.dtype("float32"), metadata={"static": True}
    )  # what it is read in

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.now.shape

    @property
    def ndim(self) -> int:
        """Of the array."""
        return self.now.ndim

    @property
    def T(self) -> "StraightThrough":
        """Of a table: what decodes with the same weight."""
        return dataclasses.replace(self, now=self.now.T, blocks=self.blocks[::-1])

    def astype(self, dtype: Any) -> Self:
        """Read in that dtype; it is rounded in float32."""
        return dataclasses.replace(self, dtype=jnp.dtype(dtype).name)

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """What comes in rounded as it will be."""
        if self.activations != "float":
            x = _through(x, quantised.by_token(x, contracted, self.activations))
        return dense(x, self.full(), contracted=contracted, result=result)

    def rows(self, ids: Any) -> jax.Array:
        """Of the rounded table."""
        return self.full()[ids]

    def full(self) -> jax.Array:
        """The rounded array; within a layer the blocks of the layer."""
        own = self.blocks[len(self.blocks) - self.now.ndim :]
        rounded = quantised.encode(self.now, own, self.kind, low=self.low).full()
        return _through(self.now, rounded).astype(self.dtype)

    def start(self) -> jax.Array:
        """What is trained."""
        return self.now


def _through(x: jax.Array, rounded: jax.Array) -> jax.Array:
    return x + jax.lax.stop_gradient(rounded.astype(x.dtype) - x)
