"""Self-attention with its projections: x_BTD -> x_BTD. Weights keep their natural rank (embed, heads,
head_dim).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import kernels, masks, parameters
from jaxlm.models.activations import constrain
from jaxlm.models.attention import attention
from jaxlm.models.dense import dense


class SelfAttention(nnx.Module):
    """Multi-head self-attention with biases (Vaswani et al., 2017, section 3.2.2)."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        width: int,
        heads: int,
        scale: float,
        dropout: float,
        implementation: kernels.Implementation,
        dtype: jnp.dtype,
    ):
        self.dropout = dropout
        self.implementation: kernels.Implementation = implementation
        self.dtype = dtype
        inner = (heads, width // heads)
        axes = ("embed", "heads", "head_dim")
        self.wq = parameters.weight(rngs, (width, *inner), axes, scale)
        self.bq = parameters.zeros(inner, axes[1:])
        self.wk = parameters.weight(rngs, (width, *inner), axes, scale)
        self.bk = parameters.zeros(inner, axes[1:])
        self.wv = parameters.weight(rngs, (width, *inner), axes, scale)
        self.bv = parameters.zeros(inner, axes[1:])
        self.wo = parameters.weight(rngs, (*inner, width), ("heads", "head_dim", "embed"), scale)
        self.bo = parameters.zeros((width,), ("embed",))

    def __call__(self, x_BTD: jax.Array, mask: masks.Mask, key: jax.Array | None) -> jax.Array:
        q_BTNH = self._project(x_BTD, self.wq, self.bq)
        k_BTNH = self._project(x_BTD, self.wk, self.bk)
        v_BTNH = self._project(x_BTD, self.wv, self.bv)
        o_BTNH = attention(
            q_BTNH,
            k_BTNH,
            v_BTNH,
            mask,
            dropout_rate=self.dropout,
            key=key,
            implementation=self.implementation,
        )
        wo_NHD = self.wo[...].astype(self.dtype)
        return dense(o_BTNH, wo_NHD, contracted=2) + self.bo[...].astype(self.dtype)

    def _project(self, x_BTD: jax.Array, weight: nnx.Param, bias: nnx.Param) -> jax.Array:
        y_BTNH = dense(x_BTD, weight[...].astype(self.dtype)) + bias[...].astype(self.dtype)
        return constrain(y_BTNH, "batch", "length", "heads", None)
