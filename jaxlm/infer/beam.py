"""Beam search on the device: one jitted prefill, one jitted loop. In: rows of prompts. Out: the best texts of each row.

The rules are those of transformers' `generate(num_beams=...)`; with one beam they are greedy. Uses only `start_cache`,
`extend` and `predict_tokens` of a model. Guaranteed: a row's texts depend on its prompt and the settings, not on the
other rows; shapes are static, and what the beams of a row remember is exchanged among themselves only.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.infer import sampling as choosing
from jaxlm.infer.decode import NONE, Prompts, read
from jaxlm.models.build import Model
from jaxlm.objectives.search import Search


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts of every row beside each other, C of them; N is the room for chosen tokens."""

    tokens_BCN: jax.Array  # NONE where nothing is chosen
    log_p_BCN: jax.Array  # float32, of the model itself
    score_BC: jax.Array  # float32; -inf: there is no such text

    def taken(self, places_BK: jax.Array) -> "Texts":
        """Those of these numbers."""
        return jax.tree.map(lambda a: _taken(a, places_BK), self)

    def beside(self, others: "Texts") -> "Texts":
        """These, then the others."""
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), self, others)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """The search so far. K is the number of beams."""

    cache: Any  # rows x beams, the beams of a row beside each other
    going: Texts  # under way; scores are sums of log-probabilities
    found: Texts  # finished, best first; scores with the length penalty
    count: jax.Array  # tokens of those under way
    ended_B: jax.Array  # whether nothing better can be found


@functools.partial(jax.jit, static_argnames=("model", "room", "search", "prefix", "int8"))
def prefill(
    model: Model, params: Any, rows: Prompts, *, room: int, search: Search, prefix: bool, int8: bool = False
) -> State:
    """Reads the prompts (or source and start tokens), and chooses the first token of every beam."""
    cache, logits_BV = read(model, params, rows, room=room, prefix=prefix, int8=int8)
    height, beams = len(logits_BV), search.beams
    nothing = Texts(
        tokens_BCN=jnp.full((height, beams, room), NONE, jnp.int32),
        log_p_BCN=jnp.zeros((height, beams, room), jnp.float32),
        score_BC=jnp.full((height, beams), -jnp.inf, jnp.float32),
    )
    state = State(
        cache=cache.repeated(beams),
        # All beams are alike so far: only one of them goes on.
        going=dataclasses.replace(nothing, score_BC=nothing.score_BC.at[:, 0].set(0.0)),
        found=nothing,
        count=jnp.zeros((), jnp.int32),
        ended_B=jnp.zeros((height,), bool),
    )
    logits_BKV = jnp.broadcast_to(logits_BV[:, None], (height, beams, logits_BV.shape[-1]))
    return _longer(state, logits_BKV, rows, search)


@functools.partial(jax.jit, static_argnames=("model", "search"), donate_argnames=("state",))
def decode(model: Model, params: Any, rows: Prompts, state: State, *, search: Search) -> State:
    """Goes on until no row can find anything better."""
    module = model.bind(params)
    height, beams, room = state.going.tokens_BCN.shape

    def step(state: State) -> State:
        last_BK = jax.lax.dynamic_index_in_dim(state.going.tokens_BCN, state.count - 1, 2, keepdims=False)
        place_B = rows.batch.positions_BT[:, -1] + state.count
        x_RTD, cache = module.extend(
            jnp.maximum(last_BK, 0).reshape(-1, 1),
            jnp.ones((height * beams, 1), jnp.int32),
            jnp.repeat(place_B, beams)[:, None],
            state.cache,
        )
        logits_BKV = module.predict_tokens(x_RTD)[:, 0].reshape(height, beams, -1)
        return _longer(dataclasses.replace(state, cache=cache), logits_BKV, rows, search)

    return jax.lax.while_loop(lambda s: (s.count < room) & ~s.ended_B.all(), step, state)


def _longer(state: State, logits_BKV: jax.Array, rows: Prompts, search: Search) -> State:
    """The state with one more token in every text under way, and those that ended with it among the found."""
    beams, count = search.beams, state.count + 1
    more, parent_BC = _continuations(state, logits_BKV, rows, search)
    token_BC = jax.lax.dynamic_index_in_dim(more.tokens_BCN, state.count, 2, keepdims=False)
    over_BC = (token_BC[..., None] == rows.stops).any(axis=-1) | (count >= rows.limit_B)[:, None]
    score_BK, place_BK = jax.lax.top_k(jnp.where(over_BC, -jnp.inf, more.score_BC), beams)
    going = dataclasses.replace(more.taken(place_BK), score_BC=score_BK)
    # Continuations beyond the first K are there so that K go on, not to be found.
    new_BC = over_BC & (jnp.arange(over_BC.shape[1]) < beams) & ~state.ended_B[:, None]
    length = (count + rows.begun).astype(jnp.float32)
    final_BC = jnp.where(new_BC, more.score_BC / length**search.length_penalty, -jnp.inf)
    found = state.found.beside(dataclasses.replace(more, score_BC=final_BC))
    found = found.taken(jax.lax.top_k(found.score_BC, beams)[1])
    return State(
        cache=state.cache.reordered(_taken(parent_BC, place_BK)),
        going=going,
        found=found,
        count=count,
        ended_B=state.ended_B | (count >= rows.limit_B) | _hopeless(going, found, count, rows, search),
    )


def _continuations(
    state: State, logits_BKV: jax.Array, rows: Prompts, search: Search
) -> tuple[Texts, jax.Array]:
    """The likeliest texts with one token more, best first, and the numbers of the beams that they go on from."""
    height, beams, vocabulary = logits_BKV.shape
    if rows.known_V is not None:
        logits_BKV = choosing.only(logits_BKV, rows.known_V)
    log_p_BKV = jax.nn.log_softmax(logits_BKV.astype(jnp.float32))
    total_BKV = _allowed(log_p_BKV, state, rows, search) + state.going.score_BC[..., None]
    # Even if all beams end with every stop token, as many go on.
    most = min(max(2, 1 + len(rows.stops)) * beams, beams * vocabulary)
    score_BC, place_BC = jax.lax.top_k(total_BKV.reshape(height, -1), most)
    parent_BC, token_BC = place_BC // vocabulary, (place_BC % vocabulary).astype(jnp.int32)
    own_BC = jnp.take_along_axis(log_p_BKV.reshape(height, -1), place_BC, axis=1)
    before = state.going.taken(parent_BC)
    write = lambda slots_BCN, new_BC: jax.lax.dynamic_update_slice_in_dim(
        slots_BCN, new_BC[..., None], state.count, axis=2
    )
    tokens_BCN, own_BCN = write(before.tokens_BCN, token_BC), write(before.log_p_BCN, own_BC)
    return Texts(tokens_BCN=tokens_BCN, log_p_BCN=own_BCN, score_BC=score_BC), parent_BC


def _hopeless(going: Texts, found: Texts, count: jax.Array, rows: Prompts, search: Search) -> jax.Array:
    """[B]: whether there are as many found as beams, and by the rule of `early_stopping` none will be better."""
    worst_B = found.score_BC.min(axis=1)
    if search.early_stopping == "yes":
        return worst_B > -jnp.inf
    longest = search.early_stopping == "never" and search.length_penalty > 0
    length_B = (rows.limit_B if longest else jnp.broadcast_to(count, rows.limit_B.shape)) + rows.begun
    best_B = going.score_BC.max(axis=1) / length_B.astype(jnp.float32) ** search.length_penalty
    return (worst_B > -jnp.inf) & (best_B <= worst_B)


def _allowed(log_p_BKV: jax.Array, state: State, rows: Prompts, search: Search) -> jax.Array:
    """-inf for tokens that would end a text too early, or repeat n tokens."""
    vocabulary = log_p_BKV.shape[-1]
    if search.min_new_tokens:
        ends_V = (jnp.arange(vocabulary)[:, None] == rows.stops).any(axis=1)
        early = state.count + rows.begun < search.min_new_tokens
        log_p_BKV = jnp.where(early & ends_V, -jnp.inf, log_p_BKV)
    if search.no_repeat_ngram:
        ids_BKW, there_BKW = _repeating(state, rows, search.no_repeat_ngram)
        ids_BKW = jnp.where(there_BKW, ids_BKW, vocabulary)  # out of range: dropped
        b, k = jnp.arange(ids_BKW.shape[0])[:, None, None], jnp.arange(ids_BKW.shape[1])[:, None]
        log_p_BKV = log_p_BKV.at[b, k, ids_BKW].set(-jnp.inf, mode="drop")
    return log_p_BKV


def _repeating(state: State, rows: Prompts, n: int) -> tuple[jax.Array, jax.Array]:
    """The last token of every n in a row of a text, prompt included, and whether its last n - 1 stand before it."""
    tokens_BKN, prompt_BT = state.going.tokens_BCN, rows.batch.tokens_BT
    height, beams, room = tokens_BKN.shape
    length = prompt_BT.shape[1]
    several = lambda a_BT: jnp.broadcast_to(a_BT[:, None], (height, beams, length))
    text_BKS = jnp.concatenate([several(prompt_BT), tokens_BKN], axis=2)
    windows, end = max(length + room - n + 1, 0), length + state.count
    starts_W = jnp.arange(windows)
    real_BW = jnp.pad(rows.batch.segments_BT > 0, ((0, 0), (0, room)), constant_values=True)[:, :windows]
    there_BKW = jnp.broadcast_to((real_BW & (starts_W + n - 1 < end))[:, None], (height, beams, windows))
    for j in range(n - 1):
        last_BK1 = jax.lax.dynamic_slice_in_dim(text_BKS, jnp.maximum(end - n + 1 + j, 0), 1, axis=2)
        there_BKW &= text_BKS[..., j : j + windows] == last_BK1
    return text_BKS[..., n - 1 : n - 1 + windows], there_BKW


def _taken(a: jax.Array, places_BK: jax.Array) -> jax.Array:
    """a[b, places_BK[b]] of every row b."""
    return jax.vmap(lambda rows, places: rows[places])(a, places_BK)
