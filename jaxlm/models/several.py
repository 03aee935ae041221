"""Weights that differ from row to row of a batch: several adapters over one base. In: those of all N, and which of them
every row takes. Out: `Value`s.

The rows of a batch stand first in what a weight is applied to; what is made of one row (places of it, beams of a
search) stands together. Guaranteed: which adapter a row takes is an array, so that any mix runs through one program;
the base is applied once, to all rows.
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.models.beside import Beside
from jaxlm.models.dense import dense
from jaxlm.models.values import Value, is_value


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SeveralLowRank(Beside):
    """base + a_n b_n, n that of the row: `LowRank` with its scale in b."""

    merges: ClassVar[bool] = False

    a: jax.Array  # [N, in ..., rank]
    b: jax.Array  # [N, rank, out ...]
    which_B: Any  # int32

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """Beside the base, two thin products a row."""
        a_BIR = _flat(self.a[self.which_B], contracted)
        b_BRO = self.b[self.which_B].reshape(*a_BIR.shape[::2], -1)
        x_BTI = x.reshape(len(self.which_B), -1, a_BIR.shape[1])
        thin_BTO = jnp.matmul(jnp.matmul(x_BTI, a_BIR), b_BRO, preferred_element_type=result)
        y = dense(x, self.base, contracted=contracted, result=result)
        return y + thin_BTO.reshape(y.shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SeveralWhole(Value):
    """A weight or a bias of a head, that of the row: each adapter has one of its own."""

    merges: ClassVar[bool] = False

    each: jax.Array  # [N, ...]
    which_B: Any  # int32

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """A product a row."""
        w_BIO = _flat(self.each[self.which_B], contracted)
        x_BTI = x.reshape(len(w_BIO), -1, w_BIO.shape[1])
        y_BTO = jnp.matmul(x_BTI, w_BIO, preferred_element_type=result)
        return y_BTO.reshape(*x.shape[: x.ndim - contracted], *self.each.shape[1 + contracted :])

    def __radd__(self, x: jax.Array) -> jax.Array:
        return x + self._beside(x)

    def __rmul__(self, x: jax.Array) -> jax.Array:
        return x * self._beside(x)

    def _beside(self, x: jax.Array) -> jax.Array:
        own = self.each[self.which_B]
        return jnp.repeat(own, len(x) // len(own), axis=0).reshape(
            len(x), *(1,) * (x.ndim - self.each.ndim), *self.each.shape[1:]
        )


def _flat(weights: jax.Array, contracted: int) -> jax.Array:
    """[B, inputs, outputs] of one weight a row."""
    shape = weights.shape
    return weights.reshape(shape[0], math.prod(shape[1 : 1 + contracted]), -1)


def chosen(params: Any, which_B: np.ndarray) -> Any:
    """The same weights for a batch whose rows take these adapters."""

    def of(node: Any) -> Any:
        if not isinstance(node, SeveralLowRank | SeveralWhole):
            return node
        which = np.broadcast_to(which_B, (*node.which_B.shape[:-1], len(which_B)))  # in every layer
        return dataclasses.replace(node, which_B=which)

    return jax.tree.map(of, params, is_leaf=is_value)
