"""Attention through one function; the mask is data.

In: queries, keys, values (K key/value heads divide N query heads) and a `Mask`. Out: o_BTNH in the dtype of
q. Guaranteed: scores and softmax in float32, no NaN for rows of padding, and the same result, to rounding,
from every implementation that `kernels.choose` may pick.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.models import activations, biased, kernels, masks, packed, products, splash
from jaxlm.models.activations import constrain
from jaxlm.models.blocks import LayerBlocks
from jaxlm.models.dropout import dropout

# Finite: a row with no allowed key then averages all values instead of dividing zero by zero.
_FORBIDDEN = -0.7 * float(np.finfo(np.float32).max)
_PART = 128  # queries
_FEW = 16  # queries up to which keys are read where they lie: for more a copy costs little


def attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array | LayerBlocks,
    v_BSKH: jax.Array | LayerBlocks,
    mask: masks.Mask,
    *,
    scale: float | None = None,
    bias_NTS: jax.Array | None = None,
    dropout_rate: float = 0.0,
    key: jax.Array | None = None,
    implementation: kernels.Implementation = "auto",
) -> jax.Array:
    """Scaled dot-product attention (Vaswani et al., 2017, section 3.2.1). `key` None means no dropout.

    `scale` of the scores is 1/sqrt(H) unless given; `bias_NTS` (float32, or [B, N, T, S]) is added to them. Keys and
    values may lie in blocks, on one CPU and without gradients.
    """
    rate = 0.0 if key is None else dropout_rate
    scale = q_BTNH.shape[-1] ** -0.5 if scale is None else scale
    if scale != 1:
        q_BTNH = q_BTNH * jnp.asarray(scale, q_BTNH.dtype)
    if isinstance(k_BSKH, LayerBlocks) and isinstance(v_BSKH, LayerBlocks):
        if q_BTNH.shape[1] <= _FEW:  # a number: there are no blocks where sizes are not known
            return _over_blocks(q_BTNH, k_BSKH, v_BSKH, mask, bias_NTS)
        k_BSKH, v_BSKH = k_BSKH.whole(), v_BSKH.whole()
    assert not isinstance(k_BSKH, LayerBlocks) and not isinstance(v_BSKH, LayerBlocks)
    case = kernels.case(q_BTNH, k_BSKH, mask, dropout=rate > 0, bias=bias_NTS)
    match kernels.pick(case, implementation).name:
        case "splash":
            return splash.attention(q_BTNH, k_BSKH, v_BSKH, mask)
        case "biased":
            assert bias_NTS is not None
            return biased.attention(q_BTNH, k_BSKH, v_BSKH, mask, bias_NTS)
        case "cudnn packed":
            return packed_attention(q_BTNH, k_BSKH, v_BSKH, mask)
        case "cudnn":
            return cudnn_attention(q_BTNH, k_BSKH, v_BSKH, mask, bias_NTS)
        case _:
            return xla_attention(q_BTNH, k_BSKH, v_BSKH, mask, bias_NTS, rate, key if rate > 0 else None)


def xla_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask: masks.Mask,
    bias_NTS: jax.Array | None = None,
    dropout_rate: float = 0.0,
    key: jax.Array | None = None,
) -> jax.Array:
    """The reference: the scores exist as an array of B*N*T*S. Queries are scaled already.

    On a CPU part by part of the row, where the keys that a part can see are known not to be all, and some heads of a
    row at a time, where all scores together would leave the cache.
    """
    # Where a row lies on several devices, each attends from its own places, to all.
    k_BSKH, v_BSKH = (constrain(x_BSKH, "batch", None, "heads", None) for x_BSKH in (k_BSKH, v_BSKH))
    allowed_BTS = masks.materialise(mask).allowed_BTS
    assert allowed_BTS is not None
    whole = functools.partial(_some_queries, dropout_rate=dropout_rate, key=key)
    length = q_BTNH.shape[1]
    # With dropout the bits are drawn for the whole array, so that a run goes on as it began.
    if not kernels.in_parts(length) or key is not None:
        return whole(q_BTNH, k_BSKH, v_BSKH, allowed_BTS, bias_NTS)
    parts = [slice(at, min(at + _PART, length)) for at in range(0, length, _PART)]
    seen = [masks.reach(mask, part) for part in parts]
    if None in seen:
        return whole(q_BTNH, k_BSKH, v_BSKH, allowed_BTS, bias_NTS)
    made = [
        whole(
            q_BTNH[:, part],
            k_BSKH[:, keys],
            v_BSKH[:, keys],
            allowed_BTS[:, part, keys],
            None if bias_NTS is None else bias_NTS[..., part, keys],
        )
        for part, keys in zip(parts, seen, strict=True)
    ]
    return jnp.concatenate(made, axis=1)


def _some_queries(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    allowed_BTS: jax.Array,
    bias_NTS: jax.Array | None,
    *,
    dropout_rate: float,
    key: jax.Array | None,
) -> jax.Array:
    (q_BKRH, allowed_BRS, bias_BKRS), back = _heads_first(q_BTNH, k_BSKH.shape, allowed_BTS, bias_NTS)
    k_BKSH, v_BKSH = k_BSKH.swapaxes(1, 2), v_BSKH.swapaxes(1, 2)
    sizes = (q_BKRH.shape[0], q_BKRH.shape[1], q_BKRH.shape[2], k_BSKH.shape[1])
    together = 0 if key is not None else kernels.heads_together(*sizes)
    if together:
        return back(_head_by_head(q_BKRH, k_BKSH, v_BKSH, allowed_BRS, bias_BKRS, together))
    drop = functools.partial(dropout, rate=dropout_rate, key=key)
    return back(_weighed(q_BKRH, k_BKSH, v_BKSH, allowed_BRS, bias_BKRS, drop))


def _over_blocks(
    q_BTNH: jax.Array, k_BSKH: LayerBlocks, v_BSKH: LayerBlocks, mask: masks.Mask, bias_NTS: jax.Array | None
) -> jax.Array:
    """Of few queries, to keys and values that lie in blocks, which are read where they lie."""
    allowed_BTS = masks.materialise(mask).allowed_BTS
    assert allowed_BTS is not None
    (q_BKRH, allowed_BRS, bias_BKRS), back = _heads_first(q_BTNH, k_BSKH.shape, allowed_BTS, bias_NTS)
    each = [
        jnp.einsum("BKRH,BKHS->BKRS", q_BKRH, k_BKHS, preferred_element_type=jnp.float32)
        for k_BKHS in k_BSKH.blocks
    ]
    p_BKRS = _probabilities(jnp.concatenate(each, axis=-1), allowed_BRS, bias_BKRS).astype(q_BTNH.dtype)
    ends = np.cumsum(v_BSKH.sizes)[:-1]
    parts = zip(jnp.split(p_BKRS, ends, axis=-1), v_BSKH.blocks, strict=True)
    return back(functools.reduce(jnp.add, [products.weighted(p, v_BKSH) for p, v_BKSH in parts]))


def _heads_first(
    q_BTNH: jax.Array, shape_BSKH: tuple[int, ...], allowed_BTS: jax.Array, bias_NTS: jax.Array | None
) -> tuple[tuple[jax.Array, jax.Array, jax.Array | None], Callable[[jax.Array], jax.Array]]:
    """Queries, mask and bias with heads in front of positions, to keys of that shape; and the way back.

    On a CPU, forward and backward then take half the time of products over BTNH. Query heads that share a key head
    stand as further queries of it, place by place (R = T x G): no key is ever repeated, and places that lie on several
    devices stay there.
    """
    batch, length, heads, width = q_BTNH.shape
    _, keys, kv_heads, _ = shape_BSKH
    shared = heads // kv_heads  # G
    q_BTKGH = q_BTNH.reshape(batch, length, kv_heads, shared, width)
    q_BKRH = q_BTKGH.swapaxes(1, 2).reshape(batch, kv_heads, -1, width)
    bias_BKRS = None
    if bias_NTS is not None:
        bias_KGTS = bias_NTS.reshape(-1, kv_heads, shared, length, keys)
        bias_BKRS = bias_KGTS.swapaxes(-3, -2).reshape(-1, kv_heads, length * shared, keys)
    allowed_BRS = allowed_BTS if shared == 1 else jnp.repeat(allowed_BTS, shared, axis=1)

    def back(o_BKRH: jax.Array) -> jax.Array:
        o_BKTGH = o_BKRH.reshape(batch, kv_heads, length, shared, width)
        return o_BKTGH.swapaxes(1, 2).reshape(q_BTNH.shape)

    return (q_BKRH, allowed_BRS, bias_BKRS), back


def _head_by_head(
    q_BKRH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    allowed_BRS: jax.Array,
    bias_BKRS: jax.Array | None,
    together: int,
) -> jax.Array:
    """Row by row, so many heads at a time, whose scores stay in the cache; the backward pass computes them again."""
    batch, kv_heads = q_BKRH.shape[:2]
    parts = kv_heads // together
    apart = lambda x: x.reshape(-1, 1, together, *x.shape[2:])
    bias = None if bias_BKRS is None else apart(bias_BKRS)

    @jax.checkpoint
    def part(each: tuple[jax.Array, ...]) -> jax.Array:
        at, q, k, v = each
        own = None if bias is None else bias[at % len(bias)]  # of all rows the same, or each its own
        return _weighed(q, k, v, allowed_BRS[at // parts][None], own, lambda p: p)

    arrays = (jnp.arange(batch * parts), apart(q_BKRH), apart(k_BKSH), apart(v_BKSH))
    return jax.lax.map(part, arrays).reshape(q_BKRH.shape)


def _weighed(
    q_BKRH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    allowed_BRS: jax.Array,
    bias_BKRS: jax.Array | None,
    drop: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    p_BKRS = _probabilities(products.scores(q_BKRH, k_BKSH), allowed_BRS, bias_BKRS).astype(q_BKRH.dtype)
    return products.weighted(drop(p_BKRS), v_BKSH)


def _probabilities(scores_BKRS: jax.Array, allowed_BRS: jax.Array, bias_BKRS: jax.Array | None) -> jax.Array:
    scores_BKRS = scores_BKRS if bias_BKRS is None else scores_BKRS + bias_BKRS
    return jax.nn.softmax(jnp.where(allowed_BRS[:, None], scores_BKRS, _FORBIDDEN), axis=-1)


def cudnn_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask: masks.Mask,
    bias_NTS: jax.Array | None = None,
) -> jax.Array:
    """cuDNN's fused attention; the mask travels as a bias of B*T*S. Queries are scaled already."""
    allowed_BTS = masks.materialise(mask).allowed_BTS
    assert allowed_BTS is not None
    bias = None if bias_NTS is None else bias_NTS.astype(q_BTNH.dtype).reshape(-1, *bias_NTS.shape[-3:])
    return jax.nn.dot_product_attention(
        q_BTNH, k_BSKH, v_BSKH, bias=bias, mask=allowed_BTS[:, None], scale=1.0, implementation="cudnn"
    )


def packed_attention(q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask: masks.Mask) -> jax.Array:
    """cuDNN's fused attention over segments by their offsets, on every device's share. Queries are scaled already."""
    assert mask.most_segments is not None
    run = functools.partial(_packed_local, most=mask.most_segments, causal=mask.causal)
    return _on_shares(run, q_BTNH, k_BSKH, v_BSKH, mask)


def _packed_local(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segments_BT: jax.Array,
    _: jax.Array,
    *,
    most: int,
    causal: bool,
) -> jax.Array:
    return packed.attention(q_BTNH, k_BSKH, v_BSKH, *packed.runs(segments_BT, most + 1), causal=causal)


def _on_shares(
    run: Callable[..., jax.Array], q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask: masks.Mask
) -> jax.Array:
    """`run` of queries, keys, values and their segments, on every device's share of rows and heads."""
    mesh = jax.sharding.get_abstract_mesh()
    arrays = (q_BTNH, k_BSKH, v_BSKH, mask.segments_BT, mask.segments_BS)
    if mesh.empty:
        return run(*arrays)
    # cuDNN's partitioning leaves offsets whole where rows are split, and every device would compute the whole batch.
    # By the key heads, which may be fewer: a device then holds the query heads of its key heads.
    share = activations.share(mesh, k_BSKH.shape, ("batch", None, "heads", None))
    rows = jax.sharding.PartitionSpec(share[0])
    return activations.on_shares(run, (share, share, share, rows, rows), share)(*arrays)
