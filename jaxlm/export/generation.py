"""The functions of a model that writes: encode, prefill, decode. In: a model, symbols for sizes. Out: them, by name.

Prompts stand at the end of their rows, so that all rows write the same slots. What is remembered goes in and comes out
as arrays by name ("cache/k_LBSKH", ...); it starts as zeros, beside what `encode` made of the source.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch
from jaxlm.export.sizes import Sizes, ids
from jaxlm.models.build import Model

Arrays = Mapping[str, Array]
Parts = tuple[str, Mapping[str, jax.ShapeDtypeStruct], Callable[[Any, Arrays], Arrays]]
CACHE = "cache"
MEMORY = "cache/memory"


def functions(model: Model, sizes: Sizes, *, prefix: bool) -> dict[str, Parts]:
    """What it does, its inputs, and the function itself, by name. `prefix`: a prompt's tokens see those behind them."""
    apart = model.config.kind == "encoder_decoder"
    rows, length, slots, *source = sizes.symbols("BTSM" if apart else "BTS")
    row = {"tokens": ids(rows, length), "lengths": ids(rows)}
    cache, structure = _cache(model, rows, slots, source, prefix)
    found: dict[str, Parts] = {}
    does = "logits [B, V] of what follows; prompts stand at the end of rows"
    found["prefill"] = (does, row | cache, _prefill(model, list(cache), structure, prefix))
    rows, slots, *source = sizes.symbols("BSM" if apart else "BS")
    cache, structure = _cache(model, rows, slots, source, prefix)
    does = "the same behind one more token of every row"
    found["decode"] = (does, {"token": ids(rows)} | cache, _decode(model, list(cache), structure))
    if apart:
        source_BM = ids(*sizes.symbols("BM"))
        given = {"tokens": source_BM, "mask": source_BM}
        found["encode"] = ("a source, padded behind, as the decoder sees it", given, _encode)
    return found


def _prefill(
    model: Model, names: Sequence[str], structure: Any, prefix: bool
) -> Callable[[Any, Arrays], Arrays]:
    def prefill(module: Any, given: Arrays) -> Arrays:
        cache = jax.tree.unflatten(structure, [given[name] for name in names])
        cache = _in_prompt(cache, given["tokens"].shape[1]) if prefix else cache
        logits_BV, cache = _extended(module, cache, given["tokens"], given["lengths"])
        return {"logits": logits_BV[:, : model.config.vocab_size], **_named(names, cache)}

    return prefill


def _decode(model: Model, names: Sequence[str], structure: Any) -> Callable[[Any, Arrays], Arrays]:
    def decode(module: Any, given: Arrays) -> Arrays:
        cache = jax.tree.unflatten(structure, [given[name] for name in names])
        token_B = given["token"]
        logits_BV, cache = _extended(module, cache, token_B[:, None], jnp.ones_like(token_B))
        return {"logits": logits_BV[:, : model.config.vocab_size], **_named(names, cache)}

    return decode


def _extended(module: Any, cache: Any, tokens_BT: Array, length_B: Array) -> tuple[Array, Any]:
    """logits_BV behind the next tokens, which stand at the end of their rows; and the cache with them in it."""
    length, before_B = tokens_BT.shape[1], (cache.segments_BS > 0).sum(axis=1, dtype=jnp.int32)
    places_BT = jnp.arange(length, dtype=jnp.int32)[None] - (length - length_B)[:, None]
    segments_BT = (places_BT >= 0).astype(jnp.int32)
    positions_BT = (places_BT + before_B[:, None]) * segments_BT
    x_BTD, cache = module.extend(tokens_BT, segments_BT, positions_BT, cache)
    return module.predict_tokens(x_BTD[:, -1:])[:, 0], cache


def _named(names: Sequence[str], cache: Any) -> dict[str, Array]:
    return dict(zip(names, jax.tree.leaves(cache), strict=True))


def _in_prompt(cache: Any, length: Any) -> Any:
    """The first slots are seen from before them."""
    here_S = (jnp.arange(cache.segments_BS.shape[1]) < length).astype(jnp.int32)
    return dataclasses.replace(cache, prefix_BS=jnp.broadcast_to(here_S, cache.segments_BS.shape))


def _cache(
    model: Model, rows: Any, slots: Any, source: Sequence[Any], prefix: bool
) -> tuple[dict[str, Any], Any]:
    """The arrays of a cache by name, and its structure."""

    def start(params: Any, batch: Batch, room: Array) -> Any:
        made = model.bind(params).start_cache(batch, room.shape[0])
        return _in_prompt(made, 0) if prefix else made

    one, names = ids(rows, 1), ("source_tokens_BS", "source_segments_BS", "source_positions_BS")
    given: dict[str, Any] = dict.fromkeys(names, ids(rows, *source)) if source else {}
    batch = Batch(tokens_BT=one, segments_BT=one, positions_BT=one, **given)
    made = jax.eval_shape(start, model.shapes, batch, ids(slots))
    leaves, structure = jax.tree_util.tree_flatten_with_path(made)
    return {f"{CACHE}/{_name(path)}": leaf for path, leaf in leaves}, structure


def _encode(module: Any, given: Arrays) -> Arrays:
    tokens_BS, mask_BS = given["tokens"], given["mask"]
    batch = Batch(
        tokens_BT=tokens_BS[:, :1],
        segments_BT=mask_BS[:, :1],
        positions_BT=mask_BS[:, :1] * 0,
        source_tokens_BS=tokens_BS,
        source_segments_BS=mask_BS,
        source_positions_BS=jnp.arange(tokens_BS.shape[1], dtype=jnp.int32)[None] * mask_BS,
    )
    memory = module.start_cache(batch, 1).memory
    leaves, _ = jax.tree_util.tree_flatten_with_path(memory)
    return {f"{MEMORY}/{_name(path)}": leaf for path, leaf in leaves}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
