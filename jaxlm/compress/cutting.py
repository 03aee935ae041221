"""Arrays of a model with fewer heads, units or layers. In: a model, which stay. Out: its smaller arrays, by path."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.compress import choosing
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.models.paths import flatten
from jaxlm.views.view import Facts, facts, parts

Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a model has fewer of."""

    name: str  # as the step calls them
    said: str  # in messages
    groups: int  # of which some go
    outputs: Sequence[str]  # paths of the matrices that they go into
    sizes: Mapping[str, int]  # axis -> how many of it belong to one group
    model: Any  # the config that says how many there are

    def config(self, keep: int) -> Any:
        """That of a model with so many."""
        if self.name == "units":
            return dataclasses.replace(self.model, mlp=keep)
        return dataclasses.replace(self.model, kv_heads=keep, heads=keep * self.sizes["heads"])


def units(model: Loaded) -> Part:
    """Of all MLPs. UserError for a mixture of experts."""
    config, known = model.model.config, facts(model.model)
    if any("experts" in one.axes for one in known.values()):
        raise UserError(
            f"{type(config).__name__} has experts in place of MLPs, whose activations are not measured. Fix: units=0, "
            "and heads or layers alone."
        )
    return Part("units", "hidden units", config.mlp, _outputs(known, "mlp/w_out"), {"mlp": 1}, config)


def heads(model: Loaded) -> Part:
    """Key heads, each with its queries. UserError where the config cannot say how wide a head is."""
    config, known = model.model.config, facts(model.model)
    name = type(config).__name__
    if any("buckets" in one.axes for one in known.values()):
        raise UserError(
            f"{name} has one table of position biases by heads for all layers, and heads go layer by layer. Fix: "
            "heads=0, and units alone."
        )
    if not hasattr(config, "head_dim") or not hasattr(config, "kv_heads"):
        raise UserError(
            f"{name} has heads of hidden / heads, here and in transformers, so that none can go and leave the others "
            "as they are. Fix: heads=0, and units or layers alone; of Llama and its relatives heads can go."
        )
    sizes = {"kv_heads": 1, "heads": config.heads // config.kv_heads}
    said = "heads" if sizes["heads"] == 1 else "key heads with their queries"
    return Part("heads", said, config.kv_heads, _outputs(known, "attention/wo"), sizes, config)


def cut(model: Loaded, part: Part, path: str, at_XG: np.ndarray) -> Arrays:
    """The matrix at this path and what stands beside it, with these groups alone; X of all that is stacked."""
    known, weights, made = facts(model.model), flatten(model.params), {}
    for other in _around(known, part, path):
        axes, array = known[other].axes, weights[other]
        stack = array.shape[:1] if "layers" in axes else ()
        name = next(name for name in part.sizes if name in axes)
        take = functools.partial(_taken, axis=axes.index(name) - len(stack), size=part.sizes[name])
        apart = array.reshape(math.prod(stack), *array.shape[len(stack) :])
        taken = jax.jit(jax.vmap(take))(apart, jnp.asarray(at_XG))
        made[other] = taken.reshape(*stack, *taken.shape[1:])
    return made


def fitted(model: Loaded, part: Part, path: str, square_II: jax.Array, keep: int, damping: float) -> Arrays:
    """As `cut`, of the groups that are missed least on what came in; the matrix itself makes good what went."""
    one, weight = facts(model.model)[path], flatten(model.params)[path]
    stack, inner, outer = parts(one, weight.shape)
    inputs, size = math.prod(inner), math.prod(inner) // part.groups

    def of_one(each: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        w_IO, seen_II = each[0], choosing.damped(each[1], damping)
        at_G = choosing.by_activations(w_IO, seen_II, part.groups, keep)
        return at_G, choosing.fitted(w_IO, seen_II, choosing.within(at_G, size))

    w_XIO = weight.astype(jnp.float32).reshape(math.prod(stack), inputs, math.prod(outer))
    seen_XII = square_II.reshape(len(w_XIO), inputs, inputs)
    at_XG, made_XJO = jax.jit(lambda *each: jax.lax.map(of_one, each))(w_XIO, seen_XII)
    found = cut(model, part, path, np.asarray(at_XG))
    return found | {path: made_XJO.reshape(found[path].shape).astype(weight.dtype)}


def sizes(model: Loaded, part: Part, path: str) -> np.ndarray:
    """Sum of the squares of all weights that belong to a group, [X, groups]."""
    known, weights, found = facts(model.model), flatten(model.params), []
    for other in _around(known, part, path):
        axes, array = known[other].axes, np.asarray(weights[other], np.float32)
        name = next(name for name in part.sizes if name in axes)
        stacked = len(array) if "layers" in axes else 1
        first = np.moveaxis(array, axes.index(name), int("layers" in axes))
        found.append(np.square(first.reshape(stacked, part.groups, -1)).sum(-1))
    return np.sum(found, axis=0)


def check_layers(model: Loaded, gone: int) -> None:
    """UserError where layers are not all alike, or too few."""
    config, known = model.model.config, facts(model.model)
    stacks = {len(leaf) for path, leaf in flatten(model.params).items() if "layers" in known[path].axes}
    by_turns = len(getattr(config, "windows", (0,))) > 1
    if by_turns or stacks != {getattr(config, "layers", None)}:
        raise UserError(
            f"{type(config).__name__} has layers that are not all of one kind, or share their weights: without one of "
            "them the others would be something else. Fix: layers=0, and units or heads alone."
        )
    if gone >= config.layers:
        raise UserError(f"layers={gone}: there are {config.layers}. Fix: fewer.")


def without_layer(model: Loaded, at: int) -> Arrays:
    """All arrays that are stacked, without that layer."""
    known = facts(model.model)
    return {
        path: jnp.delete(leaf, at, axis=0, assume_unique_indices=True)
        for path, leaf in flatten(model.params).items()
        if "layers" in known[path].axes
    }


def sizes_of_layers(model: Loaded) -> np.ndarray:
    """Sum of the squares of all weights of each."""
    known = facts(model.model)
    found = [
        np.square(np.asarray(leaf, np.float32)).reshape(len(leaf), -1).sum(-1)
        for path, leaf in flatten(model.params).items()
        if "layers" in known[path].axes
    ]
    return np.sum(found, axis=0)


def _outputs(known: Mapping[str, Facts], name: str) -> list[str]:
    return [path for path in known if f"/{path}".endswith(f"/{name}") and not path.startswith("heads/")]


def _around(known: Mapping[str, Facts], part: Part, path: str) -> list[str]:
    """Paths beside this one, itself included, that have one of the axes."""
    start = path.rpartition("/")[0] + "/"
    return [
        other for other, one in known.items() if other.startswith(start) and set(one.axes) & set(part.sizes)
    ]


def _taken(array: jax.Array, at_G: jax.Array, *, axis: int, size: int) -> jax.Array:
    return jnp.take(array, choosing.within(at_G, size), axis=axis)
