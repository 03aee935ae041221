"""Choosing the next token. In: float32 logits_BV and how to choose. Out: an id per row. Pure functions.

Filters give what they forbid the logit -inf. Their order is that of transformers: repetition penalty, temperature,
top-k, top-p, min-p. Tokens with equal logits are kept or left out together. Guaranteed: the likeliest is always kept.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """The default is greedy: the likeliest token. Every other field at its default is off."""

    temperature: float = 0.0  # logits are divided by it; 0: greedy
    top_k: int = 0  # that many of the likeliest tokens; 0: all
    top_p: float = (
        1.0  # the fewest likeliest tokens that have this share together (Holtzman et al., 1904.09751)
    )
    min_p: float = (
        0.0  # tokens at least this share of the likeliest one's probability (Nguyen et al., 2407.01082)
    )
    repetition_penalty: float = (
        1.0  # above 1: what stands in the text already is less likely (Keskar et al., 1909.05858)
    )

    def validate(self, where: str = "--") -> None:
        """UserError for the first value that cannot work."""
        allowed = {
            "temperature": (0.0 <= self.temperature <= 100.0, "0 (greedy) to 100"),
            "top_k": (self.top_k >= 0, "0 (off) or more"),
            "top_p": (0.0 < self.top_p <= 1.0, "above 0, at most 1 (off)"),
            "min_p": (0.0 <= self.min_p <= 1.0, "0 (off) to 1"),
            "repetition_penalty": (0.01 <= self.repetition_penalty <= 100.0, "0.01 to 100; 1 is off"),
        }
        for name, (fine, bounds) in allowed.items():
            if not fine:
                shown = f"{where}{name.replace('_', '-')}={getattr(self, name)}"
                raise UserError(f"{shown} is out of range; allowed: {bounds}.")


def known(tokenizer: Any) -> np.ndarray:
    """known_V (bool): the ids of a tokenizer that stand for a token. It may have gaps, and a model more ids."""
    return np.array([piece != "" for piece in tokenizer.pieces])


def only(logits_BV: jax.Array, known_V: Any) -> jax.Array:
    """Logits [..., V]; -inf where there is no such token. `known_V` may be shorter than V."""
    missing = logits_BV.shape[-1] - len(known_V)
    return jnp.where(jnp.pad(jnp.asarray(known_V), (0, missing)), logits_BV, -jnp.inf)


def choose(
    logits_BV: jax.Array, seen_BV: jax.Array | None, key_B: jax.Array, sampling: Sampling
) -> jax.Array:
    """tokens_B, int32. `seen_BV`: tokens of the text so far; needed for a repetition penalty only. One key per row."""
    if sampling.repetition_penalty != 1.0:
        assert seen_BV is not None
        logits_BV = penalise_repetition(logits_BV, seen_BV, sampling.repetition_penalty)
    if sampling.temperature == 0.0:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    logits_BV = filtered(logits_BV, sampling)
    return jax.vmap(jax.random.categorical)(key_B, logits_BV).astype(jnp.int32)


def filtered(logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
    """Temperature and the filters that are on; the softmax of the result is what a token is drawn from."""
    logits_BV = temper(logits_BV, sampling.temperature)
    logits_BV = keep_top_k(logits_BV, sampling.top_k) if sampling.top_k else logits_BV
    logits_BV = keep_top_p(logits_BV, sampling.top_p) if sampling.top_p < 1.0 else logits_BV
    return keep_min_p(logits_BV, sampling.min_p) if sampling.min_p else logits_BV


def penalise_repetition(logits_BV: jax.Array, seen_BV: jax.Array, penalty: Any) -> jax.Array:
    """Logits of seen tokens divided by the penalty; negative ones multiplied by it."""
    lower_BV = jnp.where(logits_BV < 0, logits_BV * penalty, logits_BV / penalty)
    return jnp.where(seen_BV, lower_BV, logits_BV)


def temper(logits_BV: jax.Array, temperature: Any) -> jax.Array:
    """Below 1 the likely become likelier."""
    return logits_BV / temperature


def keep_top_k(logits_BV: jax.Array, k: int) -> jax.Array:
    """The k largest logits of every row, and what is equal to the last of them."""
    k = min(k, logits_BV.shape[-1])
    return _keep_from(logits_BV, jax.lax.top_k(logits_BV, k)[0][:, -1])


def keep_top_p(logits_BV: jax.Array, p: float) -> jax.Array:
    """Every token unless those likelier than it have the share p already."""
    return _keep_from(logits_BV, least_of_share(jnp.sort(logits_BV, axis=-1, descending=True), p))


def least_of_share(sorted_BV: jax.Array, p: Any) -> jax.Array:
    """[B]: the least logit, of those sorted downwards, that has less than the share p before it; the first has. p: one
    number, or [B, 1]."""
    share_BV = jax.nn.softmax(sorted_BV, axis=-1)
    before_BV = jnp.cumsum(share_BV, axis=-1) - share_BV
    kept_BV = (before_BV < p).at[:, 0].set(True)
    return jnp.where(kept_BV, sorted_BV, jnp.inf).min(axis=-1)


def keep_min_p(logits_BV: jax.Array, p: Any) -> jax.Array:
    """Every token whose probability is at least p times the largest."""
    share_BV = jax.nn.softmax(logits_BV, axis=-1)
    kept_BV = share_BV >= p * share_BV.max(axis=-1, keepdims=True)
    return jnp.where(kept_BV, logits_BV, -jnp.inf)


def _keep_from(logits_BV: jax.Array, least_B: jax.Array) -> jax.Array:
    return jnp.where(logits_BV >= least_B[:, None], logits_BV, -jnp.inf)
