"""Weights that are not one array: values that `dense` and look-ups apply, each in its own way.

In: arrays that make up a weight. Out: an object that stands where the array would (`self.w[...].astype(dtype)`, `.T`,
`x @ w`, `table[ids]`, `dense(x, w)`). Guaranteed: the whole array is never formed unless `full` is asked for, so that
the gradient of a frozen part is never formed either.

A value is a pytree; where blocks are stacked, all its arrays have 'layers' in front, and a scan takes it apart.
"""

from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np


class Value:
    """What every value offers. Subclasses are registered dataclasses of arrays."""

    merges: ClassVar[bool] = True  # whether an array can stand for it: `full`

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """x contracted with the weight over its first `contracted` dimensions; sums in `result` if given."""
        raise NotImplementedError

    def rows(self, ids: jax.Array) -> jax.Array:
        """Rows of a table, as `table[ids]`."""
        raise NotImplementedError

    def full(self) -> jax.Array:
        """The array that it stands for."""
        raise NotImplementedError

    def start(self) -> Any:
        """The array, or value, that it stood for before anything was trained."""
        raise NotImplementedError

    def astype(self, dtype: Any) -> Self:
        """Every floating array in it in that dtype; a value in it as that value has it."""
        cast = lambda a: a.astype(dtype) if is_value(a) or jnp.issubdtype(a.dtype, jnp.floating) else a
        return jax.tree.map(cast, self, is_leaf=lambda node: is_value(node) and node is not self)

    def __getitem__(self, index: Any) -> Any:
        return self if index is Ellipsis else self.rows(index)

    def __rmatmul__(self, x: jax.Array) -> jax.Array:
        return self.product(x, 1, None)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.full(), dtype)

    def around(self, module: Any) -> Any:
        """The module that has this weight, or what has to stand around it."""
        return module


class AsArray(Value):
    """One that stands for an array wherever an array may: in norms and biases, too."""

    def __jax_array__(self) -> jax.Array:
        return self.full()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # while it is made, or copied
            raise AttributeError(name)
        return getattr(self.full(), name)


def whole(weight: Any) -> jax.Array:
    """The array that a weight is, or stands for."""
    return weight.full() if isinstance(weight, Value) else weight


def is_value(node: Any) -> bool:
    """A leaf of trees whose weights may be values."""
    return isinstance(node, Value)


def before(model: Any) -> Any:
    """A bound model as it was before anything was trained beside its weights; nothing of it is differentiated."""
    first = lambda node: jax.lax.stop_gradient(node.start() if is_value(node) else node)
    return jax.tree.map(first, model, is_leaf=is_value)


def plain(params: Any) -> Any:
    """The tree with every value that merges as the array that it stands for."""
    made = lambda node: whole(node) if getattr(node, "merges", True) else node
    return jax.tree.map(made, params, is_leaf=is_value)
