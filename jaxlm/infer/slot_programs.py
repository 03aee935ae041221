"""The device side of slots: what begins a row, reads a piece of its prompt, moves all rows, copies between them.

In: a model, its weights and the cache of all rows, which every program changes in place. Guaranteed: every shape is
fixed but for the length of a piece, which is one of a few; what is computed for a row depends on its text alone.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.infer import row_sampling
from jaxlm.infer.row_sampling import Asked, Chosen, Vocabulary
from jaxlm.models import row_cache
from jaxlm.models.build import Model


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """Some tokens of a prompt, padded behind."""

    row: Any  # int32
    used: Any  # int32: slots that stand before it
    tokens_1T: Any
    length: Any  # int32: how many of them are real


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """All rows, whose last tokens are known."""

    used_R: Any  # int32; less than 0: the row stands still
    front: Any  # int32: slots that stand before the first token of a text
    tokens_RT: Any  # the last one, and guesses of those behind it
    asked: Asked


@functools.partial(jax.jit, static_argnames=("model", "rows", "room", "source", "int8"))
def empty(
    model: Model, params: Any, start: Batch, *, rows: int, room: int, source: int, int8: bool
) -> row_cache.RowCache:
    """Rows that hold nothing. `start`: of a text's beginning, for its shapes."""
    one = jax.eval_shape(lambda params: _start(model, params, start, int8), params)
    return row_cache.rows_of(one, rows, room, source)


def unseen(model: Model, params: Any, start: Batch, rows: int) -> np.ndarray:
    """seen_RV of no tokens at all, as wide as the model's logits."""

    def logits(params: Any) -> jax.Array:
        module = model.bind(params)
        return module.predict_tokens(module.encode(start, None).x_BTD)

    return np.zeros((rows, jax.eval_shape(logits, params).shape[-1]), bool)


def _start(model: Model, params: Any, start: Batch, int8: bool) -> Any:
    """A cache of one text, with no room behind what stands before every text."""
    cache = model.bind(params).start_cache(start, 0)
    return cache.in_int8() if int8 else cache


def front(model: Model, params: Any, start: Batch) -> int:
    """Slots that stand before the first token of every text: those of learnt tokens."""
    return jax.eval_shape(lambda params: _start(model, params, start, False), params).k_LBSKH.shape[2]


@functools.partial(jax.jit, static_argnames=("model", "int8"), donate_argnames=("cache",))
def begin(
    model: Model, params: Any, cache: row_cache.RowCache, row: Any, start: Batch, *, int8: bool
) -> row_cache.RowCache:
    """What stands before a text: learnt tokens, the source of an encoder-decoder."""
    return row_cache.begun(cache, row, _start(model, params, start, int8))


@functools.partial(jax.jit, static_argnames=("slots",), donate_argnames=("cache",))
def copy(cache: row_cache.RowCache, source: Any, target: Any, *, slots: int) -> row_cache.RowCache:
    """The first slots of one row in another, too."""
    return row_cache.copied(cache, source, target, slots)


@functools.partial(jax.jit, static_argnames=("model", "prefix", "last"), donate_argnames=("cache",))
def read(
    model: Model,
    params: Any,
    cache: row_cache.RowCache,
    piece: Piece,
    front: Any,
    *,
    prefix: bool,
    last: bool,
) -> tuple[row_cache.RowCache, jax.Array | None]:
    """A row with a piece of its prompt behind what it has; behind the last piece logits_1V of what follows. `prefix`:
    every token of the prompt, of which this is all, sees all."""
    module, one = model.bind(params), row_cache.one_row(cache, piece.row, piece.used)
    at_T = jnp.arange(piece.tokens_1T.shape[1], dtype=jnp.int32)
    real_1T = (at_T < piece.length).astype(jnp.int32)[None]
    places_1T = (piece.used - front + at_T[None]) * real_1T
    if prefix:
        end = piece.used + piece.length
        in_prompt_S = (jnp.arange(one.segments_BS.shape[1]) < end).astype(jnp.int32)
        one = dataclasses.replace(one, prefix_BS=in_prompt_S[None])
    x_1TD, one = module.extend(piece.tokens_1T, real_1T, places_1T, one)
    cache = row_cache.with_row(cache, one)
    if not last:
        return cache, None
    last_11D = jax.lax.dynamic_slice_in_dim(x_1TD, piece.length - 1, 1, axis=1)
    return cache, module.predict_tokens(last_11D)[:, 0]


@functools.partial(jax.jit, static_argnames=("likeliest",), donate_argnames=("seen_RV",))
def first(
    logits_1V: jax.Array,
    seen_RV: jax.Array,
    seen_1V: Any,
    row: Any,
    asked: Asked,
    ids: Vocabulary,
    *,
    likeliest: int,
) -> tuple[jax.Array, Chosen]:
    """The first token of an answer. `seen_1V`: the tokens of its prompt."""
    chosen = row_sampling.choose(logits_1V, seen_1V, asked, ids, likeliest)
    seen_1V = jnp.asarray(seen_1V).at[0, chosen.token_R].set(True)
    return jax.lax.dynamic_update_slice_in_dim(seen_RV, seen_1V, row, axis=0), chosen


@functools.partial(jax.jit, static_argnames=("model",), donate_argnames=("cache",))
def step(
    model: Model, params: Any, cache: row_cache.RowCache, rows: Rows
) -> tuple[row_cache.RowCache, jax.Array]:
    """logits_RTV behind each of the tokens of every row."""
    cache, logits_RTV = _extended(model.bind(params), cache, rows)
    return cache, logits_RTV


@functools.partial(jax.jit, static_argnames=("likeliest",), donate_argnames=("seen_RV",))
def following(
    logits_RTV: jax.Array, seen_RV: jax.Array, rows: Rows, ids: Vocabulary, *, likeliest: int
) -> tuple[jax.Array, list[Chosen]]:
    """The next token of every row; behind each guess that was right one more. What stands behind a wrong guess means
    nothing."""
    going_R, chosen = rows.used_R >= 0, []
    number = logits_RTV.shape[1]
    for t in range(number):
        chosen.append(row_sampling.choose(logits_RTV[:, t], seen_RV, rows.asked.ahead(t), ids, likeliest))
        seen_RV = _seen(seen_RV, chosen[-1].token_R, going_R)
        if t + 1 < number:
            going_R &= chosen[-1].token_R == rows.tokens_RT[:, t + 1]
    return seen_RV, chosen


@functools.partial(jax.jit, static_argnames=("model", "number"), donate_argnames=("cache",))
def guess(
    model: Model,
    params: Any,
    cache: row_cache.RowCache,
    rows: Rows,
    ids: Vocabulary,
    seen_RV: jax.Array,
    *,
    number: int,
) -> tuple[row_cache.RowCache, jax.Array]:
    """Of a small model: tokens_RT, the last one of every row and `number` that it would choose behind it, with the
    same draws. It reads the last guess, too, as it may turn out right."""
    module = model.bind(params)

    def one(carry: Any, t: jax.Array) -> tuple[Any, jax.Array]:
        cache, seen_RV, token_R = carry
        used_R = jnp.where(rows.used_R < 0, rows.used_R, rows.used_R + t)
        asked = rows.asked.ahead(t)
        now = dataclasses.replace(rows, used_R=used_R, tokens_RT=token_R[:, None], asked=asked)
        cache, logits_RTV = _extended(module, cache, now)
        next_R = row_sampling.choose(logits_RTV[:, 0], seen_RV, asked, ids, 1).token_R
        return (cache, _seen(seen_RV, next_R, used_R >= 0), next_R), token_R

    carry = (cache, seen_RV, rows.tokens_RT[:, 0])
    (cache, *_), tokens_TR = jax.lax.scan(one, carry, jnp.arange(number + 1, dtype=jnp.int32))
    return cache, tokens_TR.T


def _extended(module: Any, cache: row_cache.RowCache, rows: Rows) -> tuple[row_cache.RowCache, jax.Array]:
    """logits_RTV behind each of the tokens."""
    cache = dataclasses.replace(cache, used=rows.used_R)
    going_RT = jnp.broadcast_to((rows.used_R >= 0)[:, None], rows.tokens_RT.shape).astype(jnp.int32)
    places_RT = (cache.places(rows.tokens_RT.shape[1]) - rows.front) * going_RT
    x_RTD, cache = module.extend(rows.tokens_RT, going_RT, places_RT, cache)
    return dataclasses.replace(cache, used=jnp.zeros_like(rows.used_R)), module.predict_tokens(x_RTD)


def _seen(seen_RV: jax.Array, token_R: jax.Array, going_R: jax.Array) -> jax.Array:
    return seen_RV.at[jnp.arange(len(token_R)), token_R].max(going_R)
