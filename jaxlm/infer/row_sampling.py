"""Choosing the next token where every row asks for something else. In: float32 logits_BV, `Asked`. Out: `Chosen`.

What a row asks for is arrays, so that any mix runs through one program; a filter costs only while some row asks for it.
Guaranteed: a row's token is `sampling.choose`'s for its settings, and depends on its logits, its key and its place in
the answer alone; the bits of a row do not depend on what the others ask for.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.infer import sampling as choosing
from jaxlm.infer.sampling import Sampling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """What each row asks for: the fields of `Sampling`, and when it may end. R is the number of rows."""

    key_R: Any  # uint32 [R, ...]: data of one key for an answer
    place_R: Any  # int32: place in the answer of the next token
    least_R: Any  # int32: places before it are no stop token
    tell_R: Any  # int32: of how many of the likeliest tokens it wants to know; 0: none
    temperature_R: Any
    top_k_R: Any
    top_p_R: Any
    min_p_R: Any
    penalty_R: Any

    @classmethod
    def of(cls, sampling: Sampling, *, seed: int, number: int = 0, least: int = 0, tell: int = 0) -> "Asked":
        """One row, whose first token is next. The key is that of prompt number `number` of `generate`."""
        key = jax.random.key_data(jax.random.fold_in(jax.random.key(seed), number))
        one = lambda value, dtype: np.array([value], dtype)
        return cls(
            key_R=np.asarray(key)[None],
            place_R=one(0, np.int32),
            least_R=one(least, np.int32),
            tell_R=one(tell, np.int32),
            temperature_R=one(sampling.temperature, np.float32),
            top_k_R=one(sampling.top_k, np.int32),
            top_p_R=one(sampling.top_p, np.float32),
            min_p_R=one(sampling.min_p, np.float32),
            penalty_R=one(sampling.repetition_penalty, np.float32),
        )

    def ahead(self, tokens: Any) -> "Asked":
        """What is asked for so many tokens later."""
        return dataclasses.replace(self, place_R=self.place_R + tokens)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """Log-probabilities are the model's own, float32: without temperature and filters."""

    token_R: jax.Array
    log_p_R: jax.Array
    likeliest_RK: jax.Array  # ids, the likeliest first; they mean something where a row asks for them
    likeliest_log_p_RK: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What is known of ids."""

    known_V: Any  # bool: stands for a token; None: all do
    stops: Any  # int32 ids that end an answer


def choose(logits_RV: jax.Array, seen_RV: jax.Array, asked: Asked, ids: Vocabulary, likeliest: int) -> Chosen:
    """The next token of every row. `seen_RV`: tokens of its text so far. `likeliest`: how many to tell beside it."""
    if ids.known_V is not None:
        logits_RV = choosing.only(logits_RV, ids.known_V)
    own_RV = jax.nn.log_softmax(logits_RV)
    token_R = _drawn(_allowed(logits_RV, seen_RV, asked, ids), asked)
    log_p_R = jnp.take_along_axis(own_RV, token_R[:, None], axis=1)[:, 0]
    none = jnp.zeros((len(own_RV), likeliest))
    best_log_p_RK, best_RK = jax.lax.cond(
        (asked.tell_R > 0).any(),
        lambda own_RV: tuple(jax.lax.top_k(own_RV, likeliest)),
        lambda _: (none, none.astype(jnp.int32)),
        own_RV,
    )
    return Chosen(
        token_R=token_R,
        log_p_R=log_p_R,
        likeliest_RK=best_RK,
        likeliest_log_p_RK=best_log_p_RK,
    )


def _allowed(logits_RV: jax.Array, seen_RV: jax.Array, asked: Asked, ids: Vocabulary) -> jax.Array:
    """-inf for what would end an answer too early; less for what stands in the text, where a row asks for that."""
    ends_V = (jnp.arange(logits_RV.shape[1])[:, None] == ids.stops).any(axis=1)
    early_R = asked.place_R < asked.least_R
    logits_RV = jnp.where(early_R[:, None] & ends_V, -jnp.inf, logits_RV)
    penalise = lambda x_RV: choosing.penalise_repetition(x_RV, seen_RV, asked.penalty_R[:, None])
    return jax.lax.cond((asked.penalty_R != 1).any(), penalise, lambda x_RV: x_RV, logits_RV)


def _drawn(logits_RV: jax.Array, asked: Asked) -> jax.Array:
    greedy_R = jnp.argmax(logits_RV, axis=-1).astype(jnp.int32)

    def draw(logits_RV: jax.Array) -> jax.Array:
        place = jax.vmap(jax.random.fold_in)
        keys_R = place(jax.random.wrap_key_data(asked.key_R), asked.place_R)
        drawn_R = jax.vmap(jax.random.categorical)(keys_R, filtered(logits_RV, asked))
        return jnp.where(asked.temperature_R > 0, drawn_R, greedy_R).astype(jnp.int32)

    return jax.lax.cond((asked.temperature_R > 0).any(), draw, lambda _: greedy_R, logits_RV)


def filtered(logits_RV: jax.Array, asked: Asked) -> jax.Array:
    """`sampling.filtered`, by row; rows that are greedy come back as they are."""
    warm_R1 = jnp.where(asked.temperature_R > 0, asked.temperature_R, 1.0)[:, None]
    logits_RV = choosing.temper(logits_RV, warm_R1)
    cuts = ((asked.top_k_R > 0) | (asked.top_p_R < 1)).any()
    logits_RV = jax.lax.cond(cuts, lambda x_RV: _likely(x_RV, asked), lambda x_RV: x_RV, logits_RV)
    keep = lambda x_RV: choosing.keep_min_p(x_RV, asked.min_p_R[:, None])
    return jax.lax.cond((asked.min_p_R > 0).any(), keep, lambda x_RV: x_RV, logits_RV)


def _likely(logits_RV: jax.Array, asked: Asked) -> jax.Array:
    """Top-k, then top-p, out of one sort."""
    size = logits_RV.shape[-1]
    sorted_RV = jnp.sort(logits_RV, axis=-1, descending=True)
    k_R1 = jnp.where(asked.top_k_R > 0, jnp.minimum(asked.top_k_R, size), size)[:, None]
    least_R1 = jnp.take_along_axis(sorted_RV, k_R1 - 1, axis=1)
    kept_RV = jnp.where(sorted_RV >= least_R1, sorted_RV, -jnp.inf)
    nucleus_R1 = choosing.least_of_share(kept_RV, asked.top_p_R[:, None])[:, None]
    least_R1 = jnp.where(asked.top_p_R[:, None] < 1, jnp.maximum(least_R1, nucleus_R1), least_R1)
    return jnp.where(logits_RV >= least_R1, logits_RV, -jnp.inf)
