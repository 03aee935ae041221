"""Products of rows that are sorted by group, each group with a matrix of its own: what experts are made of.

In: x_RI, the rows of group 0 first, then those of group 1, ...; w_EIO, sizes_E. Out: y_RO; rows behind the last group
are no one's, and what stands there means nothing. Guaranteed: work and memory are those of the rows that are in a
group, and of their matrices, whatever the sizes; nothing of rows x groups x width is formed; gradients are exact.

`jax.lax.ragged_dot` has a kernel on TPUs alone, and there not for the gradient of the matrices: that one, and all on
other platforms, XLA makes of a dense product of every row with every matrix (v5e, 8 groups, libtpu 0.0.42: forward 1.0
and gradient of the rows 1.0, of the matrices 8.0 times the work). Hence Megablox (Gale et al., 2211.15841) as jax ships
it for that gradient, and a loop over blocks of rows of one group where there is no kernel.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.megablox.gmm import tgmm

from jaxlm.models import kernels

_TILES = (512, 256, 128)  # rows of a tile of the kernel, which have to divide all rows
_WIDTH = 1024  # the most of its other sides: its sums then take 4 MiB of VMEM
# A block's rows, where there is no kernel: many, as a matrix is read anew for every block, but a small share of a
# group's, as its last block is not full.
_FEWEST, _MOST, _SHARE = 8, 512, 64


def grouped(x_RI: jax.Array, w_EIO: jax.Array, sizes_E: jax.Array) -> jax.Array:
    """y_RO in the dtype of x: every row times the matrix of its group. `sizes_E`, int32, sum to R or less."""
    if kernels.counted():
        return jax.lax.ragged_dot(x_RI, w_EIO, sizes_E)
    return _grouped(x_RI, w_EIO, sizes_E)


@jax.custom_vjp
def _grouped(x_RI: jax.Array, w_EIO: jax.Array, sizes_E: jax.Array) -> jax.Array:
    return _rows(x_RI, w_EIO, sizes_E, 1)


def _back(kept: tuple[jax.Array, ...], g_RO: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    x_RI, w_EIO, sizes_E = kept
    return _rows(g_RO, w_EIO, sizes_E, 2), _matrices(x_RI, g_RO, sizes_E).astype(w_EIO.dtype), None


_grouped.defvjp(lambda x, w, sizes: (_rows(x, w, sizes, 1), (x, w, sizes)), _back)


def _rows(x_RI: jax.Array, w: jax.Array, sizes_E: jax.Array, contracted: int) -> jax.Array:
    """x_RI with that dimension of w, [E, I, O] or [E, O, I], contracted."""
    if kernels.platform() != "tpu":
        return rows_by_blocks(x_RI, w, sizes_E, contracted)
    numbers = jax.lax.RaggedDotDimensionNumbers((((1,), (contracted,)), ((), ())), [0], [0])
    return jax.lax.ragged_dot_general(x_RI, w, sizes_E, numbers)


def _matrices(x_RI: jax.Array, g_RO: jax.Array, sizes_E: jax.Array) -> jax.Array:
    """x^T g of every group, [E, I, O]."""
    if kernels.platform() != "tpu" or len(x_RI) % _TILES[-1]:
        return matrices_by_blocks(x_RI, g_RO, sizes_E)
    return matrices_by_kernel(x_RI, g_RO, sizes_E)


def matrices_by_kernel(
    x_RI: jax.Array, g_RO: jax.Array, sizes_E: jax.Array, *, interpret: bool = False
) -> jax.Array:
    """Megablox; R divides by 128. `interpret` runs it without a TPU, for tests."""
    rows = next(tile for tile in _TILES if len(x_RI) % tile == 0)
    tiles = (rows, min(_WIDTH, x_RI.shape[1]), min(_WIDTH, g_RO.shape[1]))
    return tgmm(x_RI.T, g_RO, sizes_E, x_RI.dtype, tiles, interpret=interpret)


def rows_by_blocks(x_RI: jax.Array, w: jax.Array, sizes_E: jax.Array, contracted: int) -> jax.Array:
    """A product for every block of rows: x_RI with that dimension of w, [E, I, O] or [E, O, I], contracted."""
    number, block, _ = blocks(len(x_RI), sizes_E)

    def one(i: jax.Array, y_RO: jax.Array) -> jax.Array:
        group, cut, put, own_X1 = block(i)
        w_of_group = jax.lax.dynamic_index_in_dim(w, group, keepdims=False)
        made = jax.lax.dot_general(cut(x_RI), w_of_group, (((1,), (contracted - 1,)), ((), ())))
        return put(y_RO, jnp.where(own_X1, made, cut(y_RO)))

    return jax.lax.fori_loop(0, number, one, jnp.zeros((len(x_RI), w.shape[3 - contracted]), x_RI.dtype))


def matrices_by_blocks(x_RI: jax.Array, g_RO: jax.Array, sizes_E: jax.Array) -> jax.Array:
    """x^T g of every group, [E, I, O], float32, block by block."""
    number, block, _ = blocks(len(x_RI), sizes_E)

    def one(i: jax.Array, w_EIO: jax.Array) -> jax.Array:
        group, cut, _, own_X1 = block(i)
        x_XI, g_XO = (jnp.where(own_X1, cut(array), 0) for array in (x_RI, g_RO))
        made = jax.lax.dot_general(x_XI, g_XO, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
        return w_EIO.at[group].add(made)

    shape = (len(sizes_E), x_RI.shape[1], g_RO.shape[1])
    return jax.lax.fori_loop(0, number, one, jnp.zeros(shape, jnp.float32))


def blocks(rows: int, sizes_E: jax.Array) -> tuple[jax.Array, Callable[[jax.Array], tuple], int]:
    """How many blocks there are, each of rows of one group; of block i its group, what cuts its X rows out of an array,
    what puts them back, and which of them are its own, [X, 1]: blocks may overlap; and X."""
    size = min(rows, _MOST, max(_FEWEST, rows // max(_SHARE, 8 * len(sizes_E))))
    ends_E, blocks_E = jnp.cumsum(sizes_E), -(-sizes_E // size)
    last_E = jnp.cumsum(blocks_E)

    def block(i: jax.Array) -> tuple:
        group = jnp.searchsorted(last_E, i, side="right")
        first = ends_E[group] - sizes_E[group] + (i - last_E[group] + blocks_E[group]) * size
        start = jnp.minimum(first, rows - size)
        at_X1 = start + jnp.arange(size)[:, None]
        cut = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=start, slice_size=size)
        put = lambda array, part: jax.lax.dynamic_update_slice_in_dim(array, part, start, axis=0)
        return group, cut, put, (at_X1 >= first) & (at_X1 < ends_E[group])

    return last_E[-1], block, size
