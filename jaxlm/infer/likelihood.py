"""How likely texts are. In: rows of ids, a model that scores tokens. Out: natural log-probabilities of their tokens.

Of a decoder each token is scored from those before it; of a masked language model from all others, with the token
itself masked (pseudo-log-likelihood, Salazar et al., 1910.14659). What stands beside a row changes nothing.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.infer import frame
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.predict import size

_TOKENS = 2048  # of a batch: their logits over 50,000 entries are 400 MB
_AT_ONCE = 32  # copies of a row, each with another token masked


@dataclasses.dataclass(frozen=True)
class Followed:
    """What a decoder says of every token of a row but the first."""

    log_p: np.ndarray  # float32
    likeliest: np.ndarray  # bool: whether no token is likelier


def before(ready: Loaded) -> tuple[int, ...]:
    """The ids that a text begins with: as the model's frame says, else its BOS, or what it has in place of one."""
    vocabulary, around = ready.tokenizer.vocabulary, frame.of_loaded(ready)
    roles = (vocabulary.bos, vocabulary.eos)
    return around.before or next(((id,) for id in roles if id >= 0), ())


def followed(ready: Loaded, rows: Sequence[Sequence[int]]) -> list[Followed]:
    """Of every row of a decoder. UserError for another model, or a row longer than it reads."""
    ready.require("scoring texts", ("decoder",))
    found = _by_size(
        ready, functools.partial(_followed, entries=ready.model.config.vocab_size), rows, _TOKENS
    )
    return [
        Followed(log_p[: len(row) - 1], best[: len(row) - 1])
        for row, (log_p, best) in zip(rows, found, strict=True)
    ]


def masked(ready: Loaded, texts: Sequence[str]) -> list[tuple[list[int], np.ndarray]]:
    """(ids, log-probability of each, masked) of every text, special tokens left out."""
    ready.require("scoring texts", ("encoder",), ("tokens",))
    vocabulary = ready.tokenizer.vocabulary
    vocabulary.require("scoring texts", "mask", "cls", "sep")
    rows = [[vocabulary.cls, *ready.tokenizer.encode_marked(text), vocabulary.sep] for text in texts]
    program = functools.partial(_masked, mask=vocabulary.mask, entries=ready.model.config.vocab_size)
    found = _by_size(ready, program, rows, 1)
    return [(row[1:-1], log_p[1 : len(row) - 1]) for row, log_p in zip(rows, found, strict=True)]


def windows(length: int, window: int, stride: int) -> list[tuple[int, int, int]]:
    """(first token, one after the last, first that is scored) of windows over a text, whose first token is given.

    All others are scored once; behind the first window each has `window` - `stride` tokens before it, at least."""
    found, scored = [], 1
    while scored < length:
        end = min(window if scored == 1 else scored + stride, length)
        found.append((max(0, end - window), end, scored))
        scored = end
    return found


def _by_size(
    ready: Loaded, program: Callable[..., Any], rows: Sequence[Sequence[int]], tokens: int
) -> list[Any]:
    """`by_row`, with about as many tokens a batch."""
    groups: dict[int, list[int]] = {}
    for k, row in enumerate(rows):
        if not row:
            raise UserError(
                "a text without a token, of a model whose texts begin with none, has no probability."
            )
        ready.model.config.check_row_length(len(row), "model")
        groups.setdefault(size(len(row)), []).append(k)
    found: list[Any] = [None] * len(rows)
    for length, places in groups.items():
        most = 1 << (max(1, tokens // length).bit_length() - 1)
        for k, result in zip(
            places, ready.by_row(program, [rows[k] for k in places], batch_size=most), strict=True
        ):
            found[k] = result
    return found


@functools.partial(jax.jit, static_argnames="entries")
def _followed(model: Any, batch: Batch, *, entries: int) -> tuple[jax.Array, jax.Array]:
    """Of the token behind every position; `entries` of the logits are no padding."""
    logits_BTV = model.predict_tokens(model.encode(batch, None).x_BTD)[:, :-1, :entries].astype(jnp.float32)
    next_BT = batch.tokens_BT[:, 1:]
    own_BT = jnp.take_along_axis(logits_BTV, next_BT[..., None], axis=-1)[..., 0]
    return own_BT - jax.nn.logsumexp(logits_BTV, axis=-1), logits_BTV.argmax(axis=-1) == next_BT


@functools.partial(jax.jit, static_argnames=("mask", "entries"))
def _masked(model: Any, batch: Batch, *, mask: int, entries: int) -> jax.Array:
    """Of every token of every row, each masked once."""
    rows, length = batch.tokens_BT.shape
    at_once = min(_AT_ONCE, length)
    copies = jax.tree.map(lambda x: jnp.repeat(x, at_once, axis=0), batch)

    def some(places_C: jax.Array) -> jax.Array:
        mine_N = jnp.tile(places_C, rows)
        tokens_NT = jnp.where(jnp.arange(length) == mine_N[:, None], mask, copies.tokens_BT)
        x_NTD = model.encode(dataclasses.replace(copies, tokens_BT=tokens_NT), None).x_BTD
        x_N1D = jnp.take_along_axis(x_NTD, mine_N[:, None, None], axis=1)
        logits_NV = model.predict_tokens(x_N1D)[:, 0, :entries].astype(jnp.float32)
        own_N1 = jnp.take_along_axis(copies.tokens_BT, mine_N[:, None], axis=1)
        log_p_N1 = jnp.take_along_axis(jax.nn.log_softmax(logits_NV), own_N1, axis=1)
        return log_p_N1.reshape(rows, at_once)

    places_PC = jnp.arange(-(-length // at_once) * at_once).reshape(-1, at_once) % length
    found_PBC = jax.lax.map(some, places_PC)
    return jnp.moveaxis(found_PBC, 0, 1).reshape(rows, -1)[:, :length]
