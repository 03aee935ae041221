"""Tables that a new run has longer than the weights it starts with: tokens, positions. In: a stored parameter, a fresh
one. Out: the size of the fresh one, with the stored rows and behind them what `resize_vocabulary` or `extend_positions`
says.
"""

import jax
import jax.numpy as jnp

from jaxlm.config import Run
from jaxlm.exchange.stored import Stored


def resized(stored: Stored, run: Run, axes: tuple[str | None, ...]) -> bool:
    """Whether the run has another number of rows of a parameter with these axes."""
    have, want = stored.config, run.model
    return ("vocab" in axes and have.vocab_size != want.vocab_size) or (
        "positions" in axes and have.max_positions != want.max_positions
    )


def grown(run: Run, stored: Stored, path: str, fresh: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """A stored parameter in the size of `fresh`, laid out as it."""
    assert isinstance(fresh.sharding, jax.sharding.NamedSharding)
    everywhere = jax.sharding.NamedSharding(fresh.sharding.mesh, jax.sharding.PartitionSpec())
    old = stored.place({path: everywhere})[path]
    have, want = stored.config, run.model

    def grow(old: jax.Array, fresh: jax.Array) -> jax.Array:
        if "vocab" in axes:
            at = axes.index("vocab")
            rows = jnp.moveaxis(old, at, 0)[: have.vocab_size]
            made = _vocabulary(rows, jnp.moveaxis(fresh, at, 0), want.vocab_size, run.resize_vocabulary)
        else:
            at = axes.index("positions")
            extra = (
                old.shape[at] - have.max_positions
            )  # RoBERTa's and BART's tables begin with 2 that are never seen
            made = _positions(
                jnp.moveaxis(old, at, 0), jnp.moveaxis(fresh, at, 0), extra, run.extend_positions
            )
        return jnp.moveaxis(made, 0, at)

    return jax.jit(grow, out_shardings=fresh.sharding)(old, fresh)


def _vocabulary(old: jax.Array, fresh: jax.Array, size: int, how: str) -> jax.Array:
    kept = min(len(old), size)
    made = fresh.at[:kept].set(old[:kept])
    return made.at[kept:size].set(old.mean(0)) if how == "mean" and size > kept else made


def _positions(old: jax.Array, fresh: jax.Array, extra: int, how: str) -> jax.Array:
    have, want = len(old) - extra, len(fresh) - extra
    first, seen = old[:extra], old[extra:]
    if how == "repeat":
        rest = seen[jnp.arange(want) % have]
    elif how == "interpolate":
        at = jnp.arange(want) * ((have - 1) / max(want - 1, 1))
        low = jnp.clip(at.astype(jnp.int32), 0, max(have - 2, 0))
        share = (at - low).reshape(-1, *[1] * (old.ndim - 1))
        rest = seen[low] * (1 - share) + seen[jnp.minimum(low + 1, have - 1)] * share
    else:
        rest = fresh[extra:].at[:have].set(seen)
    return jnp.concatenate([first, rest])
