"""Who may attend to whom, as data: kernels consume it, the reference materialises it.

In: segment numbers of queries and keys, and what is static (causal, window). Out: a `Mask`. Guaranteed: a
query sees the keys of its own segment and nothing else; padding (segment 0) sees padding, so that no query
of self- attention is left without a key.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxlm.models.activations import constrain


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mask:
    """Attention allowed where segments are equal, and, if asked for, not ahead and not farther than the
    window.

    Distances are between `positions`; None means places in the row, which is the same within one segment.
    """

    segments_BT: jax.Array  # of the queries
    segments_BS: jax.Array  # of the keys
    positions_BT: jax.Array | None = None
    positions_BS: jax.Array | None = None
    prefix_BS: jax.Array | None = (
        None  # keys that their whole segment sees, also from before (prefix LM): nonzero
    )
    allowed_BTS: jax.Array | None = None  # bool, all of the above; filled by `materialise`
    at_BM: jax.Array | None = None  # of self-attention: the only places of the row that ask; None: all do
    causal: bool = dataclasses.field(default=False, metadata={"static": True})
    # (keys before, keys after) that a query sees besides itself; None is all of them
    window: tuple[int, int] | None = dataclasses.field(default=None, metadata={"static": True})
    # Of self-attention over runs of equal segments: no row has more of them besides padding. None: not known
    most_segments: int | None = dataclasses.field(default=None, metadata={"static": True})

    def asking(self, x_BTD: jax.Array) -> jax.Array:
        """What stands at the places that ask."""
        if self.at_BM is None:
            return x_BTD
        return constrain(at_places(x_BTD, self.at_BM), "batch", "length", *[None] * (x_BTD.ndim - 2))


def within_segments(
    segments_BT: jax.Array,
    *,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    prefix_BT: jax.Array | None = None,
    most_segments: int | None = None,
) -> Mask:
    """Self-attention over a packed row."""
    return Mask(
        segments_BT=segments_BT,
        segments_BS=segments_BT,
        prefix_BS=prefix_BT,
        causal=causal,
        window=window,
        most_segments=most_segments,
    )


def between_segments(segments_BT: jax.Array, segments_BS: jax.Array) -> Mask:
    """Cross-attention: a segment of the decoder's row sees the source segment of the same number."""
    return Mask(segments_BT=segments_BT, segments_BS=segments_BS)


def materialise(mask: Mask) -> Mask:
    """The same mask with `allowed_BTS` filled in: worth it once, outside a loop over layers."""
    if mask.allowed_BTS is not None:
        return mask
    allowed_BTS = mask.segments_BT[:, :, None] == mask.segments_BS[:, None, :]
    # keys minus queries: positive is ahead
    ahead_BTS = _positions(mask.positions_BS, mask.segments_BS)[:, None, :]
    ahead_BTS = ahead_BTS - _positions(mask.positions_BT, mask.segments_BT)[:, :, None]
    if mask.causal:
        behind_BTS = ahead_BTS <= 0
        allowed_BTS &= behind_BTS if mask.prefix_BS is None else behind_BTS | (mask.prefix_BS[:, None] > 0)
    if mask.window is not None:
        before, after = mask.window
        allowed_BTS &= (ahead_BTS >= -before) & (ahead_BTS <= after)
    return dataclasses.replace(mask, allowed_BTS=constrain(allowed_BTS, "batch", "length", None))


def reach(mask: Mask, queries: slice) -> slice | None:
    """The keys that these queries of a row can see at most, whatever is in it; None: it may be any."""
    moved = mask.positions_BT is not None or mask.positions_BS is not None or mask.at_BM is not None
    length, keys = mask.segments_BT.shape[1], mask.segments_BS.shape[1]
    if moved or length != keys or mask.prefix_BS is not None or not (mask.causal or mask.window):
        return None
    before, after = mask.window or (keys, keys)
    last = queries.stop + (0 if mask.causal else after)
    return slice(max(0, queries.start - before), min(keys, last))


def at(mask: Mask, at_BM: jax.Array) -> Mask:
    """Self-attention's mask with queries at these places alone."""
    mask = materialise(mask)
    assert mask.allowed_BTS is not None
    places_BT = jnp.broadcast_to(_positions(mask.positions_BT, mask.segments_BT), mask.segments_BT.shape)
    return dataclasses.replace(
        mask,
        segments_BT=at_places(mask.segments_BT, at_BM),
        positions_BT=at_places(places_BT, at_BM),
        allowed_BTS=at_places(mask.allowed_BTS, at_BM),
        at_BM=at_BM,
        most_segments=None,
    )


def at_places(x_BTD: jax.Array, at_BM: jax.Array) -> jax.Array:
    """x_BMD: what stands at the given places of every row; any number of dimensions may follow T."""
    return jnp.take_along_axis(
        x_BTD, at_BM.reshape(*at_BM.shape, *[1] * (x_BTD.ndim - 2)), axis=1, mode="clip"
    )


def first(mask: Mask, keys: int) -> Mask:
    """The mask of the first keys alone."""
    cut = lambda a: None if a is None else a[..., :keys]
    return dataclasses.replace(
        mask,
        segments_BS=mask.segments_BS[:, :keys],
        positions_BS=cut(mask.positions_BS),
        prefix_BS=cut(mask.prefix_BS),
        allowed_BTS=cut(mask.allowed_BTS),
        most_segments=None,
    )


def ahead(mask: Mask, bias_NTS: jax.Array | None, number: int) -> tuple[Mask, jax.Array | None]:
    """The mask, and what is added to the scores, with so many keys in front that everything sees."""
    mask = materialise(mask)
    assert mask.allowed_BTS is not None
    front = lambda a, value: jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(number, 0)], constant_values=value)
    places_BT = jnp.zeros_like(
        mask.segments_BT
    )  # named, so that no kernel makes the mask of the segments again
    wide = dataclasses.replace(
        mask,
        segments_BS=front(mask.segments_BS, 0),
        positions_BT=places_BT,
        positions_BS=jnp.zeros_like(front(mask.segments_BS, 0)),
        prefix_BS=None,
        allowed_BTS=front(mask.allowed_BTS, True),
        most_segments=None,
    )
    return wide, None if bias_NTS is None else front(bias_NTS, 0.0)


def _positions(positions: jax.Array | None, segments: jax.Array) -> jax.Array:
    if positions is not None:
        return positions
    return jnp.arange(segments.shape[1], dtype=jnp.int32)[None]
