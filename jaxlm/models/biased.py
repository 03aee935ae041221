"""A TPU kernel of attention with a bias on the scores that all rows share (T5's relative positions), in Pallas.

In: queries (scaled already), keys, values, a `Mask` of segments, bias_NTS. Out: o_BTNH. Guaranteed: no array of B x T x
S exists, a device computes its share of rows and heads alone, and the bias gets its gradient, summed over all rows.

A program has all keys of a row and head in VMEM, so that a softmax is that of the formula, and the backward pass finds
it again without what other kernels keep of it. Rows are inside heads in the grid: the bias of a head stays where it is,
and so does the sum of its gradient. Places lie along lanes, H along sublanes: so XLA leaves what the projections give,
heads narrower than 128 lanes are not padded, and nothing of T x S has to be turned.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from jaxlm.models import activations
from jaxlm.models.masks import Mask
from jaxlm.models.splash import KEPT

LANES = 128
_SCORES = 2**18  # that are worked on at a time, float32
_MIB = 2**20
_FORBIDDEN = -0.7 * float(
    np.finfo(np.float32).max
)  # finite: without any key, a query averages what it may not see


def attention(
    q_BTNH: jax.Array,
    k_BSNH: jax.Array,
    v_BSNH: jax.Array,
    mask: Mask,
    bias_NTS: jax.Array,
    *,
    interpret: bool = False,
) -> jax.Array:
    """T and S in 128s, H in 16s, a key head for every head, a float32 bias. `interpret`: without a TPU, for tests."""
    mesh = jax.sharding.get_abstract_mesh()
    run = functools.partial(_of_share, causal=mask.causal, interpret=interpret)
    arrays = (q_BTNH, k_BSNH, v_BSNH, mask.segments_BT, mask.segments_BS, bias_NTS)
    if mesh.empty:
        return run(*arrays)
    share = activations.share(mesh, q_BTNH.shape, ("batch", None, "heads", None))
    rows = PartitionSpec(share[0])
    # Where other devices have other rows, the gradient is summed over them.
    heads = activations.share(mesh, bias_NTS.shape, ("heads", None, None))
    return activations.on_shares(run, (share, share, share, rows, rows, heads), share)(*arrays)


def room(width: int, queries: int, keys: int, itemsize: int) -> int:
    """Bytes of VMEM that the backward pass takes, which needs most."""
    tile = _tile(queries, keys)
    rows = 2 * itemsize * width * (3 * tile + 4 * keys)  # what comes and goes, of this step and the next
    sums = 2 * 4 * width * keys
    bias = 2 * 2 * 4 * queries * keys
    return rows + sums + bias + 8 * 4 * tile * keys


def most(device_kind: str) -> int:
    """Bytes of VMEM that it may take: up to TPU v4 a core has 16 MiB, later ones have 64 at least."""
    return (16 if device_kind in ("TPU v2", "TPU v3", "TPU v4") else 48) * _MIB


def _tile(queries: int, keys: int) -> int:
    fit = (n for n in (512, 256) if queries % n == 0 and n * keys <= _SCORES)
    return next(fit, LANES)


def _of_share(
    q_BTNH: jax.Array,
    k_BSNH: jax.Array,
    v_BSNH: jax.Array,
    segments_BT: jax.Array,
    segments_BS: jax.Array,
    bias_NTS: jax.Array,
    *,
    causal: bool,
    interpret: bool,
) -> jax.Array:
    rows = (x.transpose(0, 2, 3, 1) for x in (q_BTNH, k_BSNH, v_BSNH))
    o_BNHT = _attend(causal, interpret, *rows, segments_BT[:, None], segments_BS[:, None], bias_NTS)
    return o_BNHT.transpose(0, 3, 1, 2)


def _forward(causal: bool, interpret: bool, *arrays: jax.Array) -> jax.Array:
    kernel = functools.partial(_forward_kernel, causal)
    return checkpoint_name(_call(kernel, arrays, (0,), interpret=interpret)[0], KEPT)


def _backward(causal: bool, interpret: bool, arrays: tuple[jax.Array, ...], do_BNHT: jax.Array) -> Any:
    kernel = functools.partial(_backward_kernel, causal)
    dq, dk, dv, dbias = _call(kernel, (*arrays, do_BNHT), (0, 1, 2, 5), interpret=interpret)
    return dq, dk, dv, None, None, dbias


_attend = jax.custom_vjp(_forward, nondiff_argnums=(0, 1))
_attend.defvjp(lambda causal, interpret, *arrays: (_forward(causal, interpret, *arrays), arrays), _backward)


def _call(
    kernel: Any, arrays: tuple[jax.Array, ...], like: tuple[int, ...], *, interpret: bool
) -> list[jax.Array]:
    """The kernel for every (head, row, tile of queries); its results are like these of the arrays."""
    (batch, heads, width, queries), keys = arrays[0].shape, arrays[1].shape[3]
    tile = _tile(queries, keys)
    of_tile = pl.BlockSpec((None, None, width, tile), lambda n, b, t: (b, n, 0, t))
    of_row = pl.BlockSpec((None, None, width, keys), lambda n, b, t: (b, n, 0, 0))
    segments_T = pl.BlockSpec((None, 1, tile), lambda n, b, t: (b, 0, t))
    segments_S = pl.BlockSpec((None, 1, keys), lambda n, b, t: (b, 0, 0))
    bias = pl.BlockSpec((None, queries, keys), lambda n, b, t: (n, 0, 0))
    specs = [of_tile, of_row, of_row, segments_T, segments_S, bias, of_tile]
    return pl.pallas_call(
        kernel,
        grid=(heads, batch, queries // tile),
        in_specs=specs[: len(arrays)],
        out_specs=[specs[i] for i in like],
        out_shape=[jax.ShapeDtypeStruct(arrays[i].shape, arrays[i].dtype) for i in like],
        scratch_shapes=[pltpu.VMEM((width, keys), jnp.float32)] * (2 if len(like) > 1 else 0),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary"),
            vmem_limit_bytes=max(16 * _MIB, room(width, queries, keys, arrays[0].dtype.itemsize)),
        ),
        interpret=interpret,
    )(*arrays)


def _forward_kernel(causal, q_HT, k_HS, v_HS, segments_1T, segments_1S, bias_TS, o_HT):
    allowed_TS, at = _allowed(causal, segments_1T, segments_1S)
    p_TS, _ = _probabilities(q_HT[...].T, k_HS[...], bias_TS[at], allowed_TS)
    o_HT[...] = _product(p_TS.astype(v_HS.dtype), v_HS[...], 1, 1).T.astype(o_HT.dtype)


def _backward_kernel(
    causal,
    q_HT,
    k_HS,
    v_HS,
    segments_1T,
    segments_1S,
    bias_TS,
    do_HT,
    dq_HT,
    dk_HS,
    dv_HS,
    dbias_TS,
    sum_k_HS,
    sum_v_HS,
):
    row, tile = pl.program_id(1), pl.program_id(2)

    @pl.when((row == 0) & (tile == 0))
    def _():
        dbias_TS[...] = jnp.zeros_like(dbias_TS)

    @pl.when(tile == 0)
    def _():
        sum_k_HS[...], sum_v_HS[...] = jnp.zeros_like(sum_k_HS), jnp.zeros_like(sum_v_HS)

    allowed_TS, at = _allowed(causal, segments_1T, segments_1S)
    p_TS, sees_T1 = _probabilities(q_HT[...].T, k_HS[...], bias_TS[at], allowed_TS)
    sum_v_HS[...] += _product(do_HT[...], p_TS.astype(do_HT.dtype), 1, 0)
    do_TH = jnp.where(sees_T1, do_HT[...].T.astype(jnp.float32), 0).astype(do_HT.dtype)
    dp_TS = _product(do_TH, v_HS[...], 1, 0)
    ds_TS = p_TS * (dp_TS - jnp.sum(p_TS * dp_TS, axis=1, keepdims=True))
    dbias_TS[at] += ds_TS
    ds_TS = ds_TS.astype(q_HT.dtype)
    sum_k_HS[...] += _product(q_HT[...], ds_TS, 1, 0)
    dq_HT[...] = _product(ds_TS, k_HS[...], 1, 1).T.astype(dq_HT.dtype)

    @pl.when(tile == pl.num_programs(2) - 1)
    def _():
        dk_HS[...], dv_HS[...] = sum_k_HS[...].astype(dk_HS.dtype), sum_v_HS[...].astype(dv_HS.dtype)


def _allowed(causal: bool, segments_1T: Any, segments_1S: Any) -> tuple[jax.Array, Any]:
    """Who sees whom of this tile, and where it lies in the row."""
    size = segments_1T.shape[1]
    start = pl.multiple_of(pl.program_id(2) * size, size)
    own_T1 = jnp.broadcast_to(segments_1T[...], (LANES, size)).T[:, :1]
    allowed_TS = own_T1 == segments_1S[...]
    if causal:
        place = functools.partial(jax.lax.broadcasted_iota, jnp.int32, allowed_TS.shape)
        allowed_TS &= place(1) <= place(0) + start
    return allowed_TS, pl.ds(start, size)


def _probabilities(
    q_TH: jax.Array, k_HS: jax.Array, bias_TS: jax.Array, allowed_TS: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """float32; and which queries see any key."""
    scores_TS = jnp.where(allowed_TS, _product(q_TH, k_HS, 1, 0) + bias_TS, _FORBIDDEN)
    most_T1 = jnp.max(scores_TS, axis=1, keepdims=True)
    p_TS = jnp.exp(scores_TS - most_T1)
    return p_TS / jnp.sum(p_TS, axis=1, keepdims=True), most_T1 > _FORBIDDEN


def _product(x: jax.Array, y: jax.Array, of_x: int, of_y: int) -> jax.Array:
    """Contracted over these dimensions, sums in float32; of float32 all of its bits count."""
    exact = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    dimensions = (((of_x,), (of_y,)), ((), ()))
    return jax.lax.dot_general(x, y, dimensions, precision=exact, preferred_element_type=jnp.float32)
