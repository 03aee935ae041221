"""Normalisation over the last axis, computed in float32 and returned in the dtype of the input."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import parameters


class LayerNorm(nnx.Module):
    """Layer norm with scale and, unless `bias` is off, bias (Ba et al., 2016): x_BTD -> x_BTD."""

    def __init__(self, width: int, epsilon: float, *, bias: bool = True):
        self.epsilon = epsilon
        self.scale = parameters.ones((width,), ("embed",))
        if bias:
            self.bias = parameters.zeros((width,), ("embed",))

    def __call__(self, x: jax.Array) -> jax.Array:
        # float32: squares of bfloat16 activations lose the small ones.
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...]
        y = y + self.bias[...] if hasattr(self, "bias") else y
        return y.astype(x.dtype)


class RmsNorm(nnx.Module):
    """Root-mean-square norm with scale (Zhang and Sennrich, 2019): x_BTD -> x_BTD. `axis` names the last axis."""

    def __init__(self, width: int, epsilon: float, *, axis: str = "embed"):
        self.epsilon = epsilon
        self.scale = parameters.ones((width,), (axis,))

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        mean_square = jnp.square(x32).mean(-1, keepdims=True)
        return (x32 * jax.lax.rsqrt(mean_square + self.epsilon) * self.scale[...]).astype(x.dtype)
