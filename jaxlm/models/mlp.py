"""The MLPs of a transformer block, and the activations they may use."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxlm.models import parameters
from jaxlm.models.activations import constrain
from jaxlm.models.dense import apart, dense

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
Biases = Literal["all", "none"]


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
    """x_BTD -> x_BTD through F hidden units; with biases unless `biases` is "none"."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        width: int,
        hidden: int,
        activation: Activation,
        scale: float,
        dtype: jnp.dtype,
        out_scale: float = 0.0,  # of the initial second weight; 0: `scale`
        biases: Biases = "all",
    ):
        self.activation: Activation = activation
        self.dtype = dtype
        self.w_in = parameters.weight(rngs, (width, hidden), ("embed", "mlp"), scale)
        self.w_out = parameters.weight(rngs, (hidden, width), ("mlp", "embed"), out_scale or scale)
        if biases == "all":
            self.b_in = parameters.zeros((hidden,), ("mlp",))
            self.b_out = parameters.zeros((width,), ("embed",))

    def hidden(self, x_BTD: jax.Array) -> jax.Array:
        """The activated hidden units, h_BTF."""
        h_BTF = dense(x_BTD, self.w_in[...].astype(self.dtype))
        h_BTF = h_BTF + self.b_in[...].astype(self.dtype) if hasattr(self, "b_in") else h_BTF
        return activation(self.activation)(constrain(h_BTF, "batch", "length", "mlp"))

    def output(self, h_BTF: jax.Array) -> jax.Array:
        """x_BTD from the hidden units."""
        y_BTD = dense(h_BTF, self.w_out[...].astype(self.dtype))
        return y_BTD + self.b_out[...].astype(self.dtype) if hasattr(self, "b_out") else y_BTD

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return self.output(self.hidden(x_BTD))


class GatedMlp(nnx.Module):
    """x_BTD -> x_BTD: activation(x W_gate) * (x W_in), then W_out (Shazeer, 2002.05202: SwiGLU, GeGLU); no biases."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        width: int,
        hidden: int,
        activation: Activation,
        scale: float,
        dtype: jnp.dtype,
        out_scale: float = 0.0,  # of the initial last weight; 0: `scale`
    ):
        self.activation: Activation = activation
        self.dtype = dtype
        self.w_gate = parameters.weight(rngs, (width, hidden), ("embed", "mlp"), scale)
        self.w_in = parameters.weight(rngs, (width, hidden), ("embed", "mlp"), scale)
        self.w_out = parameters.weight(rngs, (hidden, width), ("mlp", "embed"), out_scale or scale)

    def hidden(self, x_BTD: jax.Array) -> jax.Array:
        """The gated hidden units, h_BTF."""
        gate_BTF, up_BTF = (dense(x_BTD, w[...].astype(self.dtype)) for w in (self.w_gate, self.w_in))
        gate_BTF, up_BTF = (constrain(h, "batch", "length", "mlp") for h in (gate_BTF, up_BTF))
        gate_BTF, up_BTF = apart((gate_BTF, up_BTF), x_BTD.shape[-1])
        return apart(activation(self.activation)(gate_BTF) * up_BTF, x_BTD.shape[-1])

    def output(self, h_BTF: jax.Array) -> jax.Array:
        """x_BTD from the hidden units."""
        return dense(h_BTF, self.w_out[...].astype(self.dtype))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return self.output(self.hidden(x_BTD))
