"""A weight with a low-rank sum beside it (LoRA: Hu et al., 2106.09685). In: base, a, b. Out: a `Value`.

Guaranteed: base + scale * a b is never formed to apply it, so the base costs no gradient.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm.models.beside import Beside
from jaxlm.models.dense import dense
from jaxlm.models.values import whole


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRank(Beside):
    """base + scale * a b (Hu et al., 2106.09685): what is contracted stands in a, what comes out in b."""

    a: jax.Array  # [in ..., rank]
    b: jax.Array  # [rank, out ...]
    scale: float = dataclasses.field(metadata={"static": True})

    @property
    def T(self) -> "LowRank":
        """Of a table: what decodes with the same weight."""
        return LowRank(self.base.T, self.b.T, self.a.T, self.scale)

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """Through the rank, beside the base: two thin products."""
        thin = dense(dense(x, self.a, contracted=contracted), self.b, result=result)
        return dense(x, self.base, contracted=contracted, result=result) + self.scale * thin

    def rows(self, ids: jax.Array) -> jax.Array:
        """Rows of the base, and of a times b."""
        return self.base[ids] + self.scale * jnp.tensordot(self.a[ids], self.b, 1)

    def full(self) -> jax.Array:
        """The merged weight, float32; with 'layers' in front, of every layer."""
        flat_a = self.a.reshape(*self._stack, -1, self.a.shape[-1])
        flat_b = self.b.reshape(*self._stack, self.a.shape[-1], -1)
        exact = jax.lax.Precision.HIGHEST
        return whole(self.base) + self.scale * jnp.matmul(flat_a, flat_b, precision=exact).reshape(self.shape)

    @property
    def _stack(self) -> tuple[int, ...]:
        inside, rank = self.a.ndim - 1 + self.b.ndim - 1, len(self.shape)
        return self.shape[: inside - rank] if inside > rank else ()
