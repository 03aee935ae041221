"""The device side of generation: one jitted prefill, one jitted loop. In: rows of prompts. Out: the tokens chosen.

Uses only `start_cache`, `extend` and `predict_tokens` of a model. Guaranteed: a row's tokens depend on its prompt, its
key and the settings, not on the other rows or their lengths (but for rounding); ended rows are not changed; under
`jax.set_mesh` parameters stay where they are.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Batch
from jaxlm.infer import sampling as choosing
from jaxlm.infer.sampling import Sampling
from jaxlm.models.build import Model

NONE = -1  # in the slots of tokens that were not chosen


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompts:
    """What every row starts from, and when it ends. A decoder's prompts stand in tokens_BT, left-padded."""

    batch: Batch
    limit_B: Any  # int32: tokens to choose at most; at least 1
    stops: Any  # int32 ids that end a row
    key_B: Any  # one key per row
    known_V: Any = None  # bool: ids that stand for a token; None: all of the model
    # int32: tokens that a decoder begins with behind its start token, and that count as chosen (forced_bos_token_id)
    begun: Any = 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """The texts so far. N is the room for chosen tokens; the first `count` slots are used by rows that go on."""

    cache: Any
    seen_BV: jax.Array | None
    position_B: jax.Array  # of the token chosen last
    tokens_BN: jax.Array  # NONE where nothing is chosen
    log_p_BN: jax.Array  # float32, of the model itself: without temperature and filters
    count: jax.Array
    ended_B: jax.Array


@functools.partial(jax.jit, static_argnames=("model", "room", "sampling", "prefix", "int8"))
def prefill(
    model: Model,
    params: Any,
    rows: Prompts,
    *,
    room: int,
    sampling: Sampling,
    prefix: bool,
    int8: bool = False,
) -> State:
    """Reads the prompts (or source and start tokens) and chooses every row's first token."""
    batch, height = rows.batch, len(rows.batch.tokens_BT)
    cache, logits_BV = read(model, params, rows, room=room, prefix=prefix, int8=int8)
    seen_BV = None
    if sampling.repetition_penalty != 1.0:
        seen_BV = jnp.zeros(logits_BV.shape, bool)
        seen_BV = seen_BV.at[jnp.arange(height)[:, None], batch.tokens_BT].max(batch.segments_BT > 0)
    state = State(
        cache=cache,
        seen_BV=seen_BV,
        position_B=batch.positions_BT[:, -1],
        tokens_BN=jnp.full((height, room), NONE, jnp.int32),
        log_p_BN=jnp.zeros((height, room), jnp.float32),
        count=jnp.zeros((), jnp.int32),
        ended_B=jnp.zeros((height,), bool),
    )
    return _chosen(state, logits_BV, rows, sampling)


def read(
    model: Model, params: Any, rows: Prompts, *, room: int, prefix: bool, int8: bool = False
) -> tuple[Any, jax.Array]:
    """The cache with the prompts in it and `room` slots behind them, and the logits_BV of what follows. `int8`: the
    cache holds keys and values so."""
    batch, module = rows.batch, model.bind(params)
    height, length = batch.tokens_BT.shape
    cache = module.start_cache(batch, length + room)
    cache = cache.in_int8() if int8 else cache
    if prefix:
        in_prompt_S = jnp.arange(length + room) < length
        in_prompt_BS = jnp.broadcast_to(in_prompt_S.astype(jnp.int32), (height, length + room))
        cache = dataclasses.replace(cache, prefix_BS=in_prompt_BS)
    x_BTD, cache = module.extend(batch.tokens_BT, batch.segments_BT, batch.positions_BT, cache)
    return cache, module.predict_tokens(x_BTD[:, -1:])[:, 0]


@functools.partial(jax.jit, static_argnames=("model", "sampling"), donate_argnames=("state",))
def decode(
    model: Model, params: Any, rows: Prompts, state: State, until: jax.Array, *, sampling: Sampling
) -> State:
    """Goes on until `until` tokens are chosen in all, or every row has ended."""
    module = model.bind(params)

    def step(state: State) -> State:
        last_B1 = jax.lax.dynamic_slice_in_dim(state.tokens_BN, state.count - 1, 1, axis=1)
        x_B1D, cache = module.extend(
            jnp.maximum(last_B1, 0), jnp.ones_like(last_B1), state.position_B[:, None], state.cache
        )
        logits_BV = module.predict_tokens(x_B1D)[:, 0]
        return _chosen(dataclasses.replace(state, cache=cache), logits_BV, rows, sampling)

    return jax.lax.while_loop(lambda s: (s.count < until) & ~s.ended_B.all(), step, state)


def _chosen(state: State, logits_BV: jax.Array, rows: Prompts, sampling: Sampling) -> State:
    """The state with one more token in every row that has not ended."""
    if rows.known_V is not None:
        logits_BV = choosing.only(logits_BV, rows.known_V)
    key_B = jax.vmap(jax.random.fold_in, (0, None))(rows.key_B, state.count)
    token_B = choosing.choose(logits_BV, state.seen_BV, key_B, sampling)
    log_p_B = jnp.take_along_axis(jax.nn.log_softmax(logits_BV), token_B[:, None], axis=1)[:, 0]
    going_B = ~state.ended_B
    write = lambda slots, new_B, empty: jax.lax.dynamic_update_slice_in_dim(
        slots, jnp.where(going_B, new_B, empty)[:, None], state.count, axis=1
    )
    count = state.count + 1
    seen_BV = state.seen_BV
    if seen_BV is not None:
        seen_BV = seen_BV.at[jnp.arange(len(token_B)), token_B].set(True)
    stopped_B = (token_B[:, None] == rows.stops[None]).any(axis=1)
    return dataclasses.replace(
        state,
        seen_BV=seen_BV,
        position_B=state.position_B + going_B,
        tokens_BN=write(state.tokens_BN, token_B, NONE),
        log_p_BN=write(state.log_p_BN, log_p_B, 0.0),
        count=count,
        ended_B=state.ended_B | stopped_B | (count >= rows.limit_B),
    )
