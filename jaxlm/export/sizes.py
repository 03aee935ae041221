"""Sizes that are not known when a program is made. In: a model. Out: symbols, and how large each may be.

B rows   T tokens of a row   S slots of a cache   M tokens of an encoder-decoder's source
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

_LENGTHS = "TSM"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """`limits`: the largest number that a symbol stands for, where there is one."""

    limits: Mapping[str, int]

    @classmethod
    def of(cls, config: Any) -> "Sizes":
        """Of a model: nothing is longer than its positions, where it has so many and no more."""
        most = getattr(config, "max_positions", None)
        return cls({} if most is None else {name: int(most) for name in _LENGTHS})

    def symbols(self, names: str) -> tuple[Any, ...]:
        """One symbol for each letter, for the inputs of one function. A prompt fits its cache."""
        known = [f"{name} <= {self.limits[name]}" for name in names if name in self.limits]
        fits = ["T <= S"] if {"T", "S"} <= set(names) else []
        return tuple(export.symbolic_shape(", ".join(names), constraints=known + fits))


def ids(*dims: Any) -> jax.ShapeDtypeStruct:
    """An int32 input of these dimensions."""
    return jax.ShapeDtypeStruct(dims, jnp.int32)
