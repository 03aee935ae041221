"""The TPU's block-sparse flash attention (jax.experimental.pallas), on every device's share of rows, heads and places.

In: queries (scaled already), keys, values and a `Mask` of segments. Out: o_BTNH. Guaranteed: no T x S array exists, and
a device computes its share of the blocks alone.

Where a row lies on several devices, each has the queries of its places and gathers keys and values of all. Under a
causal mask late places see more than early ones: there the devices trade half of their queries, so that each has one
early and one late piece, and back (Llama 3, 2407.21783, section 3.3.2, which orders the rows themselves so).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as pallas
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxlm.models import activations, splash_tiles, traced
from jaxlm.models.masks import Mask

Axis = tuple[str, ...] | None
KEPT = "attention"  # what `stack.Remat` calls the results by: features, and the sums of their weights


@dataclasses.dataclass(frozen=True)
class Work:
    """What was traced, for a plan of its time."""

    queries: int  # of a row, on a device
    cycles: Mapping[str, float]  # of a head of a row there, by kernel (`splash_tiles.by_kernel`)


_works = traced.Recorder[Work]()
recorded = _works.recorded


def attention(
    q_BTNH: jax.Array, k_BSKH: jax.Array, v_BSKH: jax.Array, mask: Mask, *, interpret: bool = False
) -> jax.Array:
    """A device's share has T and S in 128s, T in 256s where devices trade. `interpret`: without a TPU, for tests."""
    mesh = jax.sharding.get_abstract_mesh()
    # By the key heads, which may be fewer: a device then holds the query heads of its key heads.
    share = activations.share(mesh, k_BSKH.shape, ("batch", "length", "heads", None))
    axis: Axis = share[1]
    devices = activations.devices("length") if axis else 1
    trades = devices > 1 and mask.causal and mask.window is None
    length, segments_BT = q_BTNH.shape[1], mask.segments_BT
    places_T = places(length, devices) if trades else np.arange(length, dtype=np.int32)
    heads = activations.local(mesh, share, q_BTNH.shape)[2]
    seen = _seen(places_T, k_BSKH.shape[1], mask)
    together = length // devices // (2 if trades else 1)
    kind = activations.device_kind()
    sizes = splash_tiles.sizes(seen, together, q_BTNH.shape[3], q_BTNH.dtype.itemsize, kind)
    if _works.asked:
        cycles = splash_tiles.by_kernel(seen, sizes, q_BTNH.shape[3], kind)
        _works.add(Work(length // devices, {name: n / devices for name, n in cycles.items()}))
    kernel, blocks = make(heads, seen, sizes, devices=devices, interpret=interpret)
    run = functools.partial(_of_share, axis=axis, devices=devices, trades=trades)
    segments_BT = segments_BT[:, places_T] if trades else segments_BT
    arrays = (kernel, q_BTNH, k_BSKH, v_BSKH, segments_BT, mask.segments_BS)
    if mesh.empty:
        return run(*arrays)
    split = PartitionSpec(None, axis if blocks > 1 else None)
    of_kernel = kernel.manual_sharding_spec(NamedSharding(_plain(mesh), split))
    # A Pallas call is opaque to the partitioner: without shard_map every device would compute the whole batch.
    specs = (of_kernel, share, share, share, PartitionSpec(share[0], axis), PartitionSpec(share[0]))
    return activations.on_shares(run, specs, share)(*arrays)


def _plain(mesh: AbstractMesh) -> AbstractMesh:
    """The mesh as if nothing were mapped over it already (`pipeline`): jax cannot tell shares of another."""
    return AbstractMesh(mesh.axis_sizes, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def places(length: int, devices: int) -> np.ndarray:
    """int32 [T]: which place of the row every query is, device by device, once they traded."""
    pieces = np.arange(length, dtype=np.int32).reshape(2 * devices, -1)
    held = [sorted((one, 2 * devices - 1 - one), key=lambda piece: piece % 2) for one in range(devices)]
    return pieces[np.array(held)].reshape(-1)


def _traded(x_BTNH: jax.Array, axis: Axis, devices: int, *, back: bool = False) -> jax.Array:
    """Of pieces 2i and 2i + 1, which device i has, to i and 2 x devices - 1 - i, the even one first; or back."""
    halves = []
    for half, x_BUNH in enumerate(jnp.split(x_BTNH, 2, axis=1)):
        moves = [(one, min(2 * one + half, 2 * (devices - one) - 1 - half)) for one in range(devices)]
        halves.append(jax.lax.ppermute(x_BUNH, axis, [(to, at) for at, to in moves] if back else moves))
    return jnp.concatenate(halves, axis=1)


def _of_share(
    kernel: Callable[..., Any],
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    segments_BT: jax.Array,
    segments_BS: jax.Array,
    *,
    axis: Axis,
    devices: int,
    trades: bool,
) -> jax.Array:
    if devices > 1:
        k_BSKH, v_BSKH = (jax.lax.all_gather(x, axis, axis=1, tiled=True) for x in (k_BSKH, v_BSKH))
    q_BTNH = _traded(q_BTNH, axis, devices) if trades else q_BTNH
    segments = pallas.SegmentIds(q=segments_BT, kv=segments_BS)
    o_BNTH = jax.vmap(kernel)(q_BTNH.swapaxes(1, 2), k_BSKH.swapaxes(1, 2), v_BSKH.swapaxes(1, 2), segments)
    o_BTNH = o_BNTH.swapaxes(1, 2)
    return _traded(o_BTNH, axis, devices, back=True) if trades else o_BTNH


def _seen(places_T: np.ndarray, keys: int, mask: Mask) -> splash_tiles.Seen:
    before, after = mask.window if mask.window is not None else (None, None)
    return splash_tiles.Seen(places_T, keys, before, 0 if mask.causal else after)


def make(
    heads: int,
    seen: splash_tiles.Seen,
    sizes: pallas.BlockSizes,
    *,
    devices: int = 1,
    interpret: bool = False,
) -> tuple[Any, int]:
    """The kernel, and how many parts it has: one for each device where what a query sees depends on its place."""
    if seen.before is not None or seen.after is not None:
        pattern = pallas.LocalMask((len(seen.places_T), seen.keys), (seen.before, seen.after), offset=0)
        pattern.q_sequence = seen.places_T
        parts = devices
    else:
        pattern, parts = pallas.FullMask((len(seen.places_T) // devices, seen.keys)), 1
    masks = pallas.MultiHeadMask([pattern] * heads)
    options = {
        "head_shards": 1,
        "block_sizes": sizes,
        "residual_checkpoint_name": KEPT,
        "interpret": interpret,
    }
    return pallas.make_splash_mha(masks, q_seq_shards=parts, **options), parts
