"""Attention with its projections: self-attention x_BTD -> x_BTD, cross-attention to another row.

Weights keep their natural rank (embed, heads, head_dim); K key/value heads divide N query heads. Self-attention may
turn queries and keys by their positions (rope), norm them (QK norm), and remember keys and values (cache).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models import kernels, masks, observed, parameters, rope
from jaxlm.models.activations import constrain
from jaxlm.models.attention import attention
from jaxlm.models.beside import Ahead
from jaxlm.models.blocks import LayerBlocks, whole
from jaxlm.models.cache import LayerCache
from jaxlm.models.dense import dense
from jaxlm.models.norm import RmsNorm

Biases = Literal["all", "qkv", "none"]  # which projections have one


class MultiHead(nnx.Module):
    """The projections of multi-head attention (Vaswani et al., 2017, section 3.2.2), and grouped-query attention."""

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        width: int,
        heads: int,
        kv_heads: int = 0,  # 0: as many as heads
        head_dim: int = 0,  # 0: width / heads
        scale: float,
        out_scale: float = 0.0,  # of the initial output projection; 0: `scale`
        score_scale: float | None = None,  # None: 1/sqrt(head_dim)
        biases: Biases = "all",
        qk_norm: float = 0.0,  # epsilon of an RMS norm on every head's queries and keys; 0: none
        dropout: float,
        implementation: kernels.Implementation,
        dtype: jnp.dtype,
    ):
        self.dropout, self.dtype, self.score_scale = dropout, dtype, score_scale
        self.implementation: kernels.Implementation = implementation
        head_dim, kv_heads = head_dim or width // heads, kv_heads or heads
        axes, kv_axes = ("embed", "heads", "head_dim"), ("embed", "kv_heads", "head_dim")
        self.wq = parameters.weight(rngs, (width, heads, head_dim), axes, scale)
        self.wk = parameters.weight(rngs, (width, kv_heads, head_dim), kv_axes, scale)
        self.wv = parameters.weight(rngs, (width, kv_heads, head_dim), kv_axes, scale)
        self.wo = parameters.weight(
            rngs, (heads, head_dim, width), ("heads", "head_dim", "embed"), out_scale or scale, inputs=2
        )
        if biases != "none":
            self.bq = parameters.zeros((heads, head_dim), axes[1:])
            self.bk = parameters.zeros((kv_heads, head_dim), kv_axes[1:])
            self.bv = parameters.zeros((kv_heads, head_dim), kv_axes[1:])
        if biases == "all":
            self.bo = parameters.zeros((width,), ("embed",))
        if qk_norm:
            self.norm_q = RmsNorm(head_dim, qk_norm, axis="head_dim")
            self.norm_k = RmsNorm(head_dim, qk_norm, axis="head_dim")

    def queries(self, x_BTD: jax.Array) -> jax.Array:
        """q_BTNH."""
        q_BTNH = self._project(x_BTD, "q")
        return self.norm_q(q_BTNH) if hasattr(self, "norm_q") else q_BTNH

    def keys_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """k_BSKH, v_BSKH."""
        k_BSKH, v_BSKH = self._project(x_BSD, "k"), self._project(x_BSD, "v")
        return self.norm_k(k_BSKH) if hasattr(self, "norm_k") else k_BSKH, v_BSKH

    def attend(
        self,
        q_BTNH: jax.Array,
        k_BSKH: jax.Array | LayerBlocks,
        v_BSKH: jax.Array | LayerBlocks,
        mask: masks.Mask,
        key: jax.Array | None,
        bias_NTS: jax.Array | None = None,
    ) -> jax.Array:
        """Attention, to learnt keys too where there are some, and the output projection -> x_BTD."""
        observed.note(queries=q_BTNH, keys=k_BSKH, values=v_BSKH)
        if isinstance(ahead := self.wk[...], Ahead):
            k_BSKH, v_BSKH = _behind(ahead, k_BSKH), _behind(self.wv[...], v_BSKH)
            mask, bias_NTS = masks.ahead(mask, bias_NTS, len(ahead.rows_PKH))
        o_BTNH = attention(
            q_BTNH,
            k_BSKH,
            v_BSKH,
            mask,
            scale=self.score_scale,
            bias_NTS=bias_NTS,
            dropout_rate=self.dropout,
            key=key,
            implementation=self.implementation,
        )
        wo_NHD = self.wo[...].astype(self.dtype)
        y_BTD = dense(o_BTNH, wo_NHD, contracted=2)
        return y_BTD + self.bo[...].astype(self.dtype) if hasattr(self, "bo") else y_BTD

    def _project(self, x_BTD: jax.Array, role: Literal["q", "k", "v"]) -> jax.Array:
        weight, bias = getattr(self, f"w{role}"), getattr(self, f"b{role}", None)
        y_BTNH = dense(x_BTD, weight[...].astype(self.dtype))
        y_BTNH = y_BTNH if bias is None else y_BTNH + bias[...].astype(self.dtype)
        return constrain(y_BTNH, "batch", "length", "heads", None)


def _behind(weight: Ahead, x_BSKH: jax.Array | LayerBlocks) -> jax.Array:
    """Keys or values behind the learnt ones, which every row has."""
    x_BSKH = whole(x_BSKH)
    rows_PKH = weight.rows_PKH.astype(x_BSKH.dtype)
    return jnp.concatenate([jnp.broadcast_to(rows_PKH, (x_BSKH.shape[0], *rows_PKH.shape)), x_BSKH], axis=1)


class SelfAttention(MultiHead):
    """Queries, keys and values from the same row."""

    def __call__(
        self,
        x_BTD: jax.Array,
        mask: masks.Mask,
        key: jax.Array | None,
        *,
        rotation: rope.Rotation | None = None,
        bias_NTS: jax.Array | None = None,
    ) -> jax.Array:
        q_BTNH, k_BTKH, v_BTKH = self._turned(x_BTD, rotation, mask)
        return self.attend(q_BTNH, k_BTKH, v_BTKH, mask, key, bias_NTS)

    def extend(
        self,
        x_BTD: jax.Array,
        mask: masks.Mask,
        cache: LayerCache,
        *,
        rotation: rope.Rotation | None = None,
        bias_NTS: jax.Array | None = None,
    ) -> tuple[jax.Array, LayerCache]:
        """The next T tokens, which see the cache and each other as `mask` says; and the cache with them in it."""
        q_BTNH, k_BTKH, v_BTKH = self._turned(x_BTD, rotation, mask)
        cache = cache.append(k_BTKH, v_BTKH)

        def attend(slots: int) -> jax.Array:
            k_BSKH, v_BSKH = (a_BSKH.astype(self.dtype) for a_BSKH in cache.first(slots))
            bias = None if bias_NTS is None else bias_NTS[..., :slots]
            return self.attend(q_BTNH, k_BSKH, v_BSKH, masks.first(mask, slots), None, bias)

        return cache.over_written(attend, x_BTD.shape[1]), cache

    def _turned(
        self, x_BTD: jax.Array, rotation: rope.Rotation | None, mask: masks.Mask
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        q_BTNH, (k_BTKH, v_BTKH) = self.queries(mask.asking(x_BTD)), self.keys_values(x_BTD)
        if rotation is not None:
            cos_BTH, sin_BTH = rotation
            q_BTNH = rope.rotate(q_BTNH, (mask.asking(cos_BTH), mask.asking(sin_BTH)))
            k_BTKH = rope.rotate(k_BTKH, rotation)
        return q_BTNH, k_BTKH, v_BTKH


class CrossAttention(MultiHead):
    """Queries from the decoder's row, keys and values (`keys_values`) from the encoder's."""

    def __call__(
        self,
        x_BTD: jax.Array,
        k_BSKH: jax.Array,
        v_BSKH: jax.Array,
        mask: masks.Mask,
        key: jax.Array | None,
    ) -> jax.Array:
        return self.attend(self.queries(x_BTD), k_BSKH, v_BSKH, mask, key)
