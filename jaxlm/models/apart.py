"""Weights of layers that stand one by one. In: parameters, stacked. Out: the same, an array for each layer.

An unrolled program takes each layer's share out of a stacked array, and XLA:CPU makes that a copy: of all weights, at
every call (SmolLM2-135M: 425 MB written and read again for a token). Arrays of their own are taken as they are.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxlm.models.paths import flatten, nest


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Apart:
    """An array of all layers, as one for each."""

    layers: list[Any]

    def astype(self, dtype: Any) -> "Apart":
        """Each in that dtype."""
        return Apart([a.astype(dtype) for a in self.layers])


def is_apart(node: Any) -> bool:
    """For `is_leaf`."""
    return isinstance(node, Apart)


def apart(params: Any, axes: Any, unrolled: Callable[[int], bool]) -> Any:
    """The parameters with an `Apart` for each array that has the axis 'layers' in front, `axes` as `Model.axes`, where
    so many layers are unrolled."""

    def one(path: str, value: Any) -> Any:
        if names[path][:1] != ("layers",):
            return value
        number = jax.tree.leaves(value)[0].shape[0]
        return jax.tree.map(lambda a: Apart(_split(a)), value) if unrolled(number) else value

    names = flatten(axes)
    return nest({path: one(path, value) for path, value in flatten(params).items()})


@jax.jit
def _split(a: jax.Array) -> list[jax.Array]:
    return [piece.squeeze(0) for piece in jax.lax.split(a, (1,) * a.shape[0])]
