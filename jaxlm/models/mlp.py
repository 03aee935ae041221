"""The two-layer MLP of a transformer block, and the activations it may use."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxlm.models import parameters
from jaxlm.models.activations import constrain
from jaxlm.models.dense import dense

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]


def activation(name: Activation) -> Callable[[jax.Array], jax.Array]:
    """The function of that name. 'gelu' is the exact one (erf), 'gelu_tanh' its approximation."""
    functions = {
        "gelu": exact_gelu,
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "relu": jax.nn.relu,
        "silu": jax.nn.silu,
    }
    return functions[name]


def exact_gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x) (Hendrycks and Gimpel, 2016), in float32."""
    # erf, not jax.nn.gelu's erfc: the activation alone is cheaper on CPUs; its share of a step was not separated.
    x32 = x.astype(jnp.float32)
    return (0.5 * x32 * (1 + jax.lax.erf(x32 * np.float32(0.5**0.5)))).astype(x.dtype)


class Mlp(nnx.Module):
    """x_BTD -> x_BTD through F hidden units, with biases."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        width: int,
        hidden: int,
        activation: Activation,
        scale: float,
        dtype: jnp.dtype,
    ):
        self.activation: Activation = activation
        self.dtype = dtype
        self.w_in = parameters.weight(rngs, (width, hidden), ("embed", "mlp"), scale)
        self.b_in = parameters.zeros((hidden,), ("mlp",))
        self.w_out = parameters.weight(rngs, (hidden, width), ("mlp", "embed"), scale)
        self.b_out = parameters.zeros((width,), ("embed",))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        w_in_DF, w_out_FD = self.w_in[...].astype(self.dtype), self.w_out[...].astype(self.dtype)
        h_BTF = dense(x_BTD, w_in_DF) + self.b_in[...].astype(self.dtype)
        h_BTF = activation(self.activation)(constrain(h_BTF, "batch", "length", "mlp"))
        return dense(h_BTF, w_out_FD) + self.b_out[...].astype(self.dtype)
