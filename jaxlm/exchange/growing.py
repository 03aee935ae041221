"""What a new run has in another size than the weights it starts with: tokens, positions, fewer layers.

In: a stored parameter, a fresh one. Out: the size of the fresh one: the stored rows and behind them what
`resize_vocabulary` or `extend_positions` says; the layers that `init_layers` chooses.
"""

import jax
import jax.numpy as jnp

from jaxlm.config import Run, taught
from jaxlm.errors import UserError
from jaxlm.exchange.stored import Stored


def resized(stored: Stored, run: Run, axes: tuple[str | None, ...]) -> bool:
    """Whether the run has another number of rows of a parameter with these axes."""
    have, want = stored.config, run.model
    return ("vocab" in axes and have.vocab_size != want.vocab_size) or (
        "positions" in axes and have.max_positions != want.max_positions
    )


def grown(run: Run, stored: Stored, path: str, fresh: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """A stored parameter in the size of `fresh`, laid out as it."""
    old = _everywhere(stored, path, fresh)
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


def layers(run: Run, stored: Stored, path: str, fresh: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
    """The layers that `config.init_layers` chooses, laid out as `fresh`."""
    at, have = axes.index("layers"), stored.shapes[path].shape
    if tuple(have[:at] + have[at + 1 :]) != tuple(fresh.shape[:at] + fresh.shape[at + 1 :]):
        raise UserError(
            f"config.init_from={run.init_from}: {path} has shape {tuple(have)}, this run's {tuple(fresh.shape)}: only "
            f"the number of layers may differ. Give config.model the sizes of {stored.where}."
        )
    numbers = jnp.array(taught.chosen(run.init_layers, have[at], fresh.shape[at]))
    old = _everywhere(stored, path, fresh)
    return jax.jit(lambda old: jnp.take(old, numbers, axis=at), out_shardings=fresh.sharding)(old)


def told(run: Run, stored: Stored, path: str, fresh: jax.Array, axes: tuple[str | None, ...]) -> str:
    """Which layers they are."""
    at, have = axes.index("layers"), stored.shapes[path].shape
    numbers = ", ".join(map(str, taught.chosen(run.init_layers, have[at], fresh.shape[at])))
    return f"  layers {numbers} of {have[at]} (config.init_layers={run.init_layers})"


def _everywhere(stored: Stored, path: str, fresh: jax.Array) -> jax.Array:
    assert isinstance(fresh.sharding, jax.sharding.NamedSharding)
    everywhere = jax.sharding.NamedSharding(fresh.sharding.mesh, jax.sharding.PartitionSpec())
    return stored.place({path: everywhere})[path]


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
