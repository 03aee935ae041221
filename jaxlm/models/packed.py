"""cuDNN's attention over the segments of packed rows: it is told where each begins and how long it is.

In: queries, keys, values of whole rows, and lengths and starts of their segments. Out: o_BTNH. Guaranteed: no array of
T*T, forward or backward; every token of a row is in a segment (padding is the last one), so that every element of the
output and of the gradients is written. The call is jax's own, but not public: `missing` says what keeps it from
running here.
"""

from typing import Any

import jax
import jax.numpy as jnp

try:
    from jax._src.cudnn import fused_attention_stablehlo as fused
except ImportError:  # it may move: then the mask travels as a bias, see kernels.py
    fused = None


def missing() -> str | None:
    """What the GPU or the installed jax lacks; None: nothing."""
    if fused is None or not hasattr(fused, "check_compute_capability"):
        return f"jax {jax.__version__} has no call that takes them"
    if not fused.check_compute_capability("9.0"):  # as the call itself asks
        return "they need compute capability 9.0 (Hopper)"
    return None


def runs(segments_BT: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Lengths [B, most] and starts [B, most + 1] of the runs of equal segments, padding included; -1 in unused slots.

    There must not be more runs than that: the tokens of further ones are left out.
    """
    begins_BT = jnp.pad(jnp.diff(segments_BT, axis=1) != 0, ((0, 0), (1, 0)))
    number_BT = jnp.cumsum(begins_BT, axis=1, dtype=jnp.int32)
    lengths_BC = (number_BT[:, :, None] == jnp.arange(most)).sum(axis=1, dtype=jnp.int32)
    starts_BC = jnp.cumsum(lengths_BC, axis=1, dtype=jnp.int32) - lengths_BC
    used_BC = lengths_BC > 0
    starts_BC = jnp.pad(jnp.where(used_BC, starts_BC, -1), ((0, 0), (0, 1)), constant_values=-1)
    return jnp.where(used_BC, lengths_BC, -1), starts_BC


def attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    lengths_BC: jax.Array,
    starts_BC: jax.Array,
    *,
    causal: bool,
) -> jax.Array:
    """Self-attention within every segment. Queries are scaled already."""
    assert fused is not None
    # Up to 0.10 the call takes the stride of the queries for that of the keys (jax-ml/jax, pull request 39521).
    share = q_BTNH.shape[2] // k_BTKH.shape[2]
    k_BTNH, v_BTNH = (jnp.repeat(x, share, axis=2) for x in (k_BTKH, v_BTKH))
    o_BTNH: Any = fused.dot_product_attention(
        q_BTNH,
        k_BTNH,
        v_BTNH,
        q_seqlen=lengths_BC,
        kv_seqlen=lengths_BC,
        q_offsets=starts_BC,
        kv_offsets=starts_BC,
        mask_type=fused.MaskType.PADDING_CAUSAL if causal else fused.MaskType.PADDING,
    )
    return o_BTNH
