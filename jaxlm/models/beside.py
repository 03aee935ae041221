"""Weights with something beside them: scales, a bottleneck, rows ahead. In: the base and that. Out: `Value`s.

Guaranteed: nothing of the base's size is formed to apply them, so a frozen base costs no gradient. The base may itself
be a value. Vectors that scale have the base's rank, with 1 where they do not vary, so that stacks are like single ones.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxlm.errors import UserError
from jaxlm.models.dense import dense
from jaxlm.models.mlp import Activation, activation
from jaxlm.models.values import Value, whole


@dataclasses.dataclass(frozen=True)
class Beside(Value):
    """What has a base: an array, or a value."""

    base: Any

    @property
    def dtype(self) -> jnp.dtype:
        """Of the base."""
        return self.base.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array that it stands for."""
        return self.base.shape

    def start(self) -> Any:
        """The base."""
        return self.base.start() if isinstance(self.base, Value) else self.base


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scaled(Beside):
    """inner * base * outer, elementwise: what goes in, or comes out, times a vector. None: as it is.

    IA3 (Liu et al., 2205.05638), the magnitude of DoRA, and inputs that are scaled before a base is rounded.
    """

    inner: jax.Array | None  # [in ..., 1 ...]
    outer: jax.Array | None  # [1 ..., out ...]

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """Around that of the base."""
        if self.inner is not None:
            x = x * self.inner.reshape(self.inner.shape[:contracted])
        y = dense(x, self.base, contracted=contracted, result=result)
        return y if self.outer is None else y * self.outer.reshape(self.outer.shape[contracted:])

    def full(self) -> jax.Array:
        """The merged weight; with 'layers' in front, of every layer."""
        made = whole(self.base)
        for scale in (self.inner, self.outer):
            made = made if scale is None else made * scale
        return made


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bottleneck(Beside):
    """h + act(h down + b_down) up + b_up of what the base gives, h (Houlsby et al., 1902.00751, section 2.1).

    `bias` is the one that the model adds behind the base: h has it.
    """

    merges: ClassVar[bool] = False

    bias: jax.Array | None  # [D]
    down: jax.Array  # [D, R]
    b_down: jax.Array  # [R]
    up: jax.Array  # [R, D]
    b_up: jax.Array  # [D]
    activation: Activation = dataclasses.field(metadata={"static": True})

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """Of the base, and through the bottleneck."""
        y_BTD = dense(x, self.base, contracted=contracted, result=result)
        h_BTD = y_BTD if self.bias is None else y_BTD + self.bias
        inside_BTR = activation(self.activation)(dense(h_BTD, self.down) + self.b_down)
        return y_BTD + dense(inside_BTR, self.up) + self.b_up

    def full(self) -> jax.Array:
        """UserError: it is no linear map."""
        raise UserError(
            "A bottleneck adapter computes between two layers what no weight of the model can hold, so it cannot be "
            "merged. Fix: use the run itself (--run=RUN), or train LoRA instead, which can."
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ahead(Beside):
    """The projection of keys or values, and learnt ones that every token sees (Li and Liang, 2101.00190)."""

    merges: ClassVar[bool] = False

    rows_PKH: jax.Array

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """Of the base: attention puts the rows in front (self_attention.py)."""
        return dense(x, self.base, contracted=contracted, result=result)

    def full(self) -> jax.Array:
        """UserError: a weight makes keys of tokens, and these are of none."""
        raise UserError(
            "Learnt keys and values belong to no token, so no weight of the model can hold them: a prefix cannot be "
            "merged. Fix: use the run itself (--run=RUN), or train LoRA instead, which can."
        )
