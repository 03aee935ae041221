"""A model whose blocks read something near what it embeds. In: a model, a change of embeddings. Out: the same calls.

For noise and adversaries, around any objective: what is changed is what goes into the blocks (`embed`), behind
positions, norm and dropout of the family. A row holds several items: sums, norms and largest values are an item's own.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch

# x_BTD, or of an encoder-decoder (x_BSD, x_BTD)
Embedded = Any
Change = Callable[[Embedded, Batch, Array | None], Embedded]


@jax.tree_util.register_pytree_node_class
class Disturbed:
    """Around a bound model. As weights that are handed on (`Logits.model`) it is the plain model."""

    def __init__(self, model: Any, change: Change) -> None:
        self._model, self._change = model, change

    def embed(self, batch: Batch, key: Array | None = None) -> Embedded:
        """The model's, changed."""
        return self._change(self._model.embed(batch, key), batch, key)

    def encode(
        self,
        batch: Batch,
        key: Array | None = None,
        x_BTD: Embedded | None = None,
        at_BM: Array | None = None,
    ) -> Any:
        """As the model's, from what is changed or from what is given."""
        return self._model.encode(batch, key, self.embed(batch, key) if x_BTD is None else x_BTD, at_BM)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """Its weights."""
        return (self._model,), None

    @classmethod
    def tree_unflatten(cls, _: None, children: tuple[Any]) -> Any:
        """The plain model: heads read features, which are disturbed already."""
        return children[0]


def near(model: Any, r: Embedded) -> Disturbed:
    """The model at embeddings + r, float32, in the shape of `embed`'s result."""
    add = lambda x, r: (x.astype(jnp.float32) + r).astype(x.dtype)
    return Disturbed(model, lambda x, batch, key: jax.tree.map(add, x, r))


def segments(batch: Batch, x: Embedded) -> Any:
    """Numbers of the items, in the structure of `x`; an item's two sides in an encoder-decoder count by themselves."""
    if not isinstance(x, tuple):
        return batch.segments_BT
    return _both_sides(batch).source_segments_BS, batch.segments_BT


def _both_sides(batch: Batch) -> Batch:
    """With a source: an encoder-decoder that judges texts has the row on both sides (`reading.encode`)."""
    if batch.source_tokens_BS is not None:
        return batch
    return dataclasses.replace(
        batch,
        source_tokens_BS=batch.tokens_BT,
        source_segments_BS=batch.segments_BT,
        source_positions_BS=batch.positions_BT,
    )


def sums(values_BT: Array, segments_BT: Array) -> Array:
    """[B, T]: at every token the sum over its item."""
    return _over_items(jax.ops.segment_sum, values_BT, segments_BT)


def largest(values_BT: Array, segments_BT: Array) -> Array:
    """[B, T]: at every token the largest value of its item."""
    return _over_items(jax.ops.segment_max, values_BT, segments_BT)


def _over_items(reduce: Callable[..., Array], values_BT: Array, segments_BT: Array) -> Array:
    count = segments_BT.shape[1] + 1
    row = lambda values_T, segments_T: reduce(values_T, segments_T, num_segments=count)[segments_T]
    return jax.vmap(row)(values_BT, segments_BT)


def norms(r_BTD: Array, segments_BT: Array) -> Array:
    """[B, T, 1]: at every token the Euclidean length of its item's part of r."""
    return jnp.sqrt(sums(jnp.square(r_BTD).sum(-1), segments_BT))[..., None]


def unit(g: Embedded, batch: Batch) -> Embedded:
    """Every item's part at length 1; 0 at padding, and where an item's is 0."""

    def scaled(g_BTD: Array, segments_BT: Array) -> Array:
        length = norms(g_BTD, segments_BT)
        real = (segments_BT > 0)[..., None] & (length > 0)
        return jnp.where(real, g_BTD / jnp.where(real, length, 1.0), 0.0)

    return jax.tree.map(scaled, g, segments(batch, g))


def within(r: Embedded, radius: float, batch: Batch) -> Embedded:
    """Every item's part shortened to `radius` where it is longer; 0: no limit."""
    if not radius:
        return r

    def shortened(r_BTD: Array, segments_BT: Array) -> Array:
        length = norms(r_BTD, segments_BT)
        return r_BTD * jnp.where(length > radius, radius / jnp.where(length > radius, length, 1.0), 1.0)

    return jax.tree.map(shortened, r, segments(batch, r))


def zeros(model: Any, batch: Batch) -> Embedded:
    """float32 in the shape of what the model embeds."""
    shapes = jax.eval_shape(lambda: model.embed(_both_sides(batch), None))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), shapes)


def drawn(draw: Callable[..., Array], key: Array, like: Embedded) -> Embedded:
    """`draw(key, shape)` for every part."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten([draw(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)])


def spread(u: Embedded, size: float, batch: Batch) -> Embedded:
    """u * size / sqrt(tokens of the item * D); 0 at padding."""

    def scaled(u_BTD: Array, segments_BT: Array) -> Array:
        real_BT = (segments_BT > 0).astype(jnp.float32)
        entries_BT = jnp.maximum(sums(real_BT, segments_BT), 1.0) * u_BTD.shape[-1]
        return u_BTD * (real_BT * size / jnp.sqrt(entries_BT))[..., None]

    return jax.tree.map(scaled, u, segments(batch, u))


def unit_entries(g: Embedded, batch: Batch) -> Embedded:
    """Every item's part with its largest entry at 1 or -1; 0 where it is 0."""

    def scaled(g_BTD: Array, segments_BT: Array) -> Array:
        most = largest(jnp.abs(g_BTD).max(-1), segments_BT)[..., None]
        return jnp.where(most > 0, g_BTD / jnp.where(most > 0, most, 1.0), 0.0)

    return jax.tree.map(scaled, g, segments(batch, g))


def real(r: Embedded, batch: Batch) -> Embedded:
    """0 at padding."""
    return jax.tree.map(lambda r, s: jnp.where((s > 0)[..., None], r, 0.0), r, segments(batch, r))
