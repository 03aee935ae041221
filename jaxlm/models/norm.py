"""Normalisation over the last axis, computed in float32 and returned in the dtype of the input."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import parameters


class LayerNorm(nnx.Module):
    """Layer norm with scale and bias (Ba et al., 2016): x_BTD -> x_BTD."""

    def __init__(self, width: int, epsilon: float):
        self.epsilon = epsilon
        self.scale = parameters.ones((width,), ("embed",))
        self.bias = parameters.zeros((width,), ("embed",))

    def __call__(self, x: jax.Array) -> jax.Array:
        # float32: squares of bfloat16 activations lose the small ones.
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]
        return y.astype(x.dtype)
