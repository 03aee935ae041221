"""A weight most of whose inputs are rounded, and few are not: those with outliers (Dettmers et al., 2208.07339).

In: what stands for all inputs, the numbers of a few, their rows as they are. Out: a `Value`.
"""

import dataclasses
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxlm.models.dense import dense
from jaxlm.models.values import Value, whole


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Split(Value):
    """The rest, applied to x without the inputs `at_K`, and these rows applied to them."""

    rest: Any  # a value
    at_K: jax.Array  # int32, among the inputs as one dimension
    kept_KO: jax.Array  # [K, out ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that it stands for."""
        return self.rest.shape

    @property
    def dtype(self) -> jnp.dtype:
        """Of the array that it stands for."""
        return self.rest.dtype

    def start(self) -> Self:
        """Itself: nothing of it is trained."""
        return self

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """The sum of both."""
        flat = x.reshape(*x.shape[: x.ndim - contracted], -1)
        without = flat.at[..., self.at_K].set(0).reshape(x.shape)
        few = dense(flat[..., self.at_K], self.kept_KO.astype(x.dtype), result=result)
        return self.rest.product(without, contracted, result) + few

    def full(self) -> jax.Array:
        """The array; with 'layers' in front, of every layer."""
        stack = self.at_K.shape[:-1]
        outputs = self.kept_KO.shape[len(stack) + 1 :]
        set_rows = lambda w, at, rows: w.at[at].set(rows)
        for _ in stack:
            set_rows = jax.vmap(set_rows)
        w = whole(self.rest).reshape(*stack, -1, *outputs)
        return set_rows(w, self.at_K, self.kept_KO).reshape(self.shape)
