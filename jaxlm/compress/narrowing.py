"""Fewer features between the layers of a model (its `hidden`). In: a model, text, which stay. Out: smaller arrays.

What a feature is worth is its share of what every matrix makes of it: the squares of what comes in times those of its
weights (structured Wanda; of the widths of a whole model: Minitron, 2407.14679). Norms divide by the root of the mean
square of all features; over those that stay it is another, and their scales make good what it is on average.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.compress.calibration import Calibration
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.models.build import Model
from jaxlm.models.paths import flatten
from jaxlm.views.view import Facts, facts

_AXIS = "embed"


@dataclasses.dataclass(frozen=True)
class Seen:
    """Mean squares of features, of every token alike."""

    matrices: Mapping[str, np.ndarray]  # of what comes into each, [X, D]; X of all that is stacked
    final_D: np.ndarray  # of what the model says, behind its last norm


def check(model: Loaded) -> None:
    """UserError for a family whose heads are as wide as its features say, or with what no text measures."""
    config, known = model.model.config, facts(model.model)
    name = type(config).__name__
    if not hasattr(config, "head_dim"):
        raise UserError(
            f"{name} has heads of hidden / heads, so that narrower features would narrow them. Fix: width=0, and units "
            "or layers; of Llama and its relatives, and of T5's encoder, features can go."
        )
    if any("experts" in one.axes for one in known.values()):
        raise UserError(f"{name} has experts, whose activations are not measured. Fix: width=0.")


def measured(model: Loaded, text: Calibration) -> Seen:
    """On rows of text."""
    paths = [path for path, one in facts(model.model).items() if _reads(path, one)]
    found = text.inputs(model, paths)
    diagonal = lambda square: np.diagonal(np.asarray(square, np.float64), axis1=-2, axis2=-1)
    matrices = {
        path: diagonal(found[path].square_II).reshape(-1, _width(model)) / text.tokens for path in paths
    }
    with jax.set_mesh(model.mesh):
        final = sum(np.asarray(_squares(model.model, model.params, batch)) for batch in text.batches())
    return Seen(matrices, np.asarray(final, np.float64) / text.tokens)


def worth(model: Loaded, seen: Seen) -> np.ndarray:
    """[D]: of each feature the share of every product, summed; the table that predicts tokens is one."""
    weights, config = flatten(model.params), model.model.config
    total_D = np.zeros(_width(model))
    for path, mean_XD in seen.matrices.items():
        weight = np.asarray(weights[path], np.float64).reshape(*mean_XD.shape, -1)
        each_XD = mean_XD * np.square(weight).sum(-1)
        total_D += (each_XD / np.maximum(each_XD.sum(-1, keepdims=True), 1e-30)).sum(0)
    table = weights.get("decoder/table", weights["tokens/table"])
    read_D = np.square(np.asarray(table, np.float64)).sum(0) if config.kind == "decoder" else 1.0
    final_D = seen.final_D * read_D
    return total_D + final_D / final_D.sum()


def sizes(model: Loaded) -> np.ndarray:
    """[D]: of each feature the share of the squares of every array, summed."""
    weights, total_D = flatten(model.params), np.zeros(_width(model))
    for path, one in facts(model.model).items():
        for axis in _axes(one):
            array = np.square(np.asarray(weights[path], np.float64))
            each_D = array.sum(tuple(other for other in range(array.ndim) if other != axis))
            total_D += each_D / each_D.sum()
    return total_D


def cut(model: Loaded, at_J: np.ndarray, seen: Seen | None) -> dict[str, Any]:
    """All arrays with these features alone; scales of norms as `seen` says."""
    weights, made = flatten(model.params), {}
    for path, one in facts(model.model).items():
        array = weights[path]
        for axis in _axes(one):
            array = jnp.take(array, jnp.asarray(at_J), axis=axis)
        if _axes(one):
            made[path] = array
    if seen is not None:
        for path in [p for p in made if p.endswith("/scale")]:
            made[path] = made[path] * _root(path, weights[path], at_J, seen).astype(np.float32)
    return made


def _root(path: str, scale: Any, at_J: np.ndarray, seen: Seen) -> np.ndarray:
    """[X, 1] or [1]: by how much more those that stay are, in the root of the mean square, than all."""
    scale_XD = np.asarray(scale, np.float64).reshape(-1, scale.shape[-1])
    mean_XD = seen.final_D[None]
    base, inside, name = path.removesuffix("/scale").rpartition("norm_")
    if inside:  # of a block: what reads it stands beside it
        mean_XD = next(mean for other, mean in seen.matrices.items() if other.startswith(f"{base}{name}/"))
    square_XD = np.where(scale_XD == 0, 0.0, mean_XD / np.where(scale_XD == 0, 1.0, np.square(scale_XD)))
    root_X1 = np.sqrt(square_XD[:, at_J].mean(-1, keepdims=True))
    return root_X1 if scale.ndim > 1 else root_X1[0]


def _width(model: Loaded) -> int:
    return model.model.config.hidden


def _axes(one: Facts) -> list[int]:
    return [axis for axis, name in enumerate(one.axes) if name == _AXIS]


def _reads(path: str, one: Facts) -> bool:
    """Whether it is a matrix of a block that features go into."""
    inside = one.axes[1:] if one.axes[:1] == ("layers",) else one.axes
    return one.inputs == 1 and inside[:1] == (_AXIS,) and "blocks/" in path


@functools.partial(jax.jit, static_argnums=0)
def _squares(model: Model, params: Any, batch: Any) -> jax.Array:
    return jnp.square(model.bind(params).encode(batch, None).x_BTD.astype(jnp.float32)).sum((0, 1))
