"""A weight as the product of two thin ones. In: a, b. Out: a `Value`, which is applied without that product."""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp

from jaxlm.models.dense import dense
from jaxlm.models.values import Value


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factors(Value):
    """a b: what is contracted stands in a, what comes out in b; 'layers' in front of both."""

    a: jax.Array  # [in ..., rank]
    b: jax.Array  # [rank, out ...]
    inputs: int = dataclasses.field(default=1, metadata={"static": True})  # dimensions that are contracted

    @property
    def dtype(self) -> jnp.dtype:
        """Of the array that it stands for."""
        return self.a.dtype

    @property
    def T(self) -> "Factors":
        """Of a table: what decodes with the same weight."""
        return Factors(self.b.T, self.a.T, self.inputs)

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """Through the rank."""
        return dense(dense(x, self.a, contracted=contracted), self.b, result=result)

    def rows(self, ids: jax.Array) -> jax.Array:
        """Rows of a table."""
        return jnp.tensordot(self.a[ids], self.b, 1)

    def full(self) -> jax.Array:
        """The product; with 'layers' in front, of every layer."""
        stack = self.a.ndim - 1 - self.inputs
        product = lambda a, b: jnp.tensordot(a, b, 1, precision=jax.lax.Precision.HIGHEST)
        for _ in range(stack):
            product = jax.vmap(product)
        return product(self.a, self.b)

    def start(self) -> Self:
        """Itself: nothing of it is trained."""
        return self
