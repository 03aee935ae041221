"""A rounded table that lies as it decodes. In: parameters. Out: the same, on a CPU, with such tables turned.

A table of tokens [V, D] is looked up by rows and decodes as [D, V]. XLA:CPU has a fast product of whole numbers for
matrices that lie as they are written alone: 28 million numbers turned within a program take 70 ms at every call instead
of 3 (SmolLM2-135M, two rows). Looking up columns costs some microseconds a token.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.models.paths import flatten, nest
from jaxlm.models.quantised import Quantised
from jaxlm.models.values import Value


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Turned(Value):
    """The table [V, D] of what decodes."""

    decoding: Quantised  # [D, V]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the table."""
        return self.decoding.shape[::-1]

    @property
    def T(self) -> Quantised:
        """What decodes."""
        return self.decoding

    def rows(self, ids: jax.Array) -> jax.Array:
        """Rows of the table."""
        wide = lambda a: jnp.broadcast_to(a, (*a.shape[:-1], self.shape[0]))
        part = jax.tree.map(lambda a: jnp.moveaxis(wide(a)[:, ids], 0, -1), self.decoding)
        return part.full()

    def full(self) -> jax.Array:
        """The table, float32."""
        return self.decoding.full().T

    def start(self) -> "Turned":
        """Itself: nothing of it is trained."""
        return self


def turned(params: Any, axes: Any) -> Any:
    """The parameters with a `Turned` for each table of whole-number products; `axes` as `Model.axes`."""

    def one(path: str, value: Any) -> Any:
        table = isinstance(value, Quantised) and names[path] == ("vocab", "embed")
        return Turned(_across(value)) if table and value.activations != "float" else value

    names = flatten(axes)
    return nest({path: one(path, value) for path, value in flatten(params).items()})


_across = jax.jit(lambda table: table.T)
