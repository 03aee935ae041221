"""A new run starts from weights that exist. In: the run, its fresh state, `config.init_from`. Out: the state with them.

Heads that the weights lack stay fresh, heads that the run lacks are left behind, both listed; a longer vocabulary or
more positions are made only when the run says how. Guaranteed: any other difference between the two models is refused
by the name of its field; no parameter is ever whole on a device that holds a part of it, those that grow aside.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.config import Run, flags, tree
from jaxlm.convert.table import listed
from jaxlm.data.tokens.subwords import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import pairs, tokenizer_files
from jaxlm.exchange.stored import HF, Stored
from jaxlm.models.build import Model, build
from jaxlm.models.paths import flatten, nest

Say = Callable[[str], None]


def params(run: Run, model: Model, fresh: Any, like: Any, tokenizer: Tokenizer, say: Say) -> Any:
    """The parameters a run starts with. `fresh`: initialised ones, on the mesh; `like`: their shapes and shardings.

    UserError when tokenizer or model do not fit.
    """
    name = run.init_from
    stored = pairs.open_any(
        name if name.startswith(HF) else str(flags.local_folder(name, "config.init_from")), say=say
    )
    if stored.run is not None and stored.run.view:
        raise UserError(
            f"config.init_from={name} holds what was trained on top of other weights. Fix: merge the two first, "
            f"jaxlm export {name} DIR, then --config.init_from=hf:DIR."
        )
    _check_tokenizer(run, stored, tokenizer, say)
    check_model(run, stored)
    shapes, new, axes = flatten(like), flatten(fresh), flatten(model.axes)
    growing = {path for path in shapes if path in stored.shapes and _resized(stored, run, axes[path])}
    same = {
        path: leaf.sharding for path, leaf in shapes.items() if path in stored.shapes and path not in growing
    }
    for path in same:
        if tuple(stored.shapes[path].shape) != tuple(shapes[path].shape):
            raise UserError(
                f"config.init_from={name}: {path} has shape {tuple(stored.shapes[path].shape)}, this run's "
                f"{tuple(shapes[path].shape)}. Give config.model the sizes of {stored.where}."
            )
    made = dict(new) | stored.place(same)
    for path in sorted(growing):
        made[path] = _grown(run, stored, path, new[path], axes[path])
        say(f"  {path}: {tuple(stored.shapes[path].shape)} made into {tuple(new[path].shape)}")
    _report(stored, shapes, len(same) + len(growing), say)
    return nest(made)


def check_model(run: Run, stored: Stored) -> None:
    """UserError naming the first field of config.model that makes another function of the same weights."""
    ours, theirs = run.model, stored.config
    if type(ours) is not type(theirs):
        raise UserError(
            f"config.init_from={run.init_from} is a {type(theirs).__name__}, config.model is a "
            f"{type(ours).__name__}. Fix: a recipe of that family."
        )
    for field in dataclasses.fields(ours):
        have, want = getattr(theirs, field.name), getattr(ours, field.name)
        if have == want or tree.has_default(field) or "dropout" in field.name or "init" in field.name:
            continue
        if field.name == "vocab_size":
            _check_option(run, "resize_vocabulary", field.name, have, want)
        elif field.name == "max_positions":
            if _has_axis(ours, "positions"):
                _check_option(run, "extend_positions", field.name, have, want)
        else:
            fix = f" Fix: --config.model.{field.name}={have}" if isinstance(have, str | int | float) else ""
            raise UserError(
                f"config.model.{field.name}={want!r}, but {run.init_from} has {have!r}: the weights would mean "
                f"something else.{fix}"
            )


def _check_option(run: Run, option: str, field: str, have: int, want: int) -> None:
    how = getattr(run, option)
    if how == "refuse":
        choices = "mean, normal" if option == "resize_vocabulary" else "repeat, interpolate, normal"
        raise UserError(
            f"config.model.{field}={want}, but {run.init_from} has {have}. Fix: --config.model.{field}={have}, or "
            f"say how what is new begins: --config.{option} (one of {choices}; docs/conversion.md)."
        )
    if option == "extend_positions" and want < have:
        raise UserError(
            f"config.model.{field}={want}, but {run.init_from} has {have}: positions can only become more. Fix: "
            f"--config.model.{field}={have}; shorter rows need no fewer positions."
        )


def _has_axis(config: Any, axis: str) -> bool:
    return any(axis in axes for axes in flatten(build(config).axes).values())


def _resized(stored: Stored, run: Run, axes: tuple[str | None, ...]) -> bool:
    have, want = stored.config, run.model
    return ("vocab" in axes and have.vocab_size != want.vocab_size) or (
        "positions" in axes and have.max_positions != want.max_positions
    )


def _grown(run: Run, stored: Stored, path: str, fresh: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
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


def _check_tokenizer(run: Run, stored: Stored, tokenizer: Tokenizer, say: Say) -> None:
    if stored.fingerprint == tokenizer.fingerprint:
        return
    name = run.init_from
    if stored.run is None and not stored.tokenizer:
        say(f"WARNING: {name} has no tokenizer: nobody knows whether its ids are those of this run's")
        return
    theirs = tokenizer_files.open_files(stored.tokenizer, stored.where) if stored.tokenizer else None
    if theirs is not None and theirs.fingerprint == tokenizer.fingerprint:
        return
    path = name.removeprefix(HF) if name.startswith(HF) else f"{name}/tokenizer"
    if stored.run is None and theirs is not None:
        size = theirs.size if run.resize_vocabulary == "refuse" else min(theirs.size, tokenizer.size)
        other = [i for i in range(size) if i >= tokenizer.size or theirs.token(i) != tokenizer.token(i)]
        if not other:
            say(f"the tokenizer is not the one of {name}, its {size} ids are the same")
            return
        first = f"id {other[0]} is {theirs.token(other[0])!r} there"
    else:
        first = f"{stored.fingerprint[:16]} there, {tokenizer.fingerprint[:16]} here"
    raise UserError(
        f"config.init_from={name} was trained with another tokenizer ({first}). Fix: "
        f"--config.tokenizer=\"Pretrained(path='{path}')\"."
    )


def _report(stored: Stored, shapes: Mapping[str, Any], taken: int, say: Say) -> None:
    say(f"weights from {stored.where}: {taken} of {len(shapes)} parameters")
    fresh = sorted(set(shapes) - set(stored.shapes))
    left = [*sorted(set(stored.shapes) - set(shapes)), *stored.unexpected]
    if fresh:
        say(f"  {listed('fresh, which the weights lack', fresh)}")
    if left:
        say(f"  {listed('left behind, which this model lacks', left)}")
