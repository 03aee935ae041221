"""The only file that takes Flax modules apart: a model config becomes pure functions over plain nested dicts.

In: a config with `.module(rngs, dtype)`. Out: a `Model` with `init`, `bind` and `axes`. Guaranteed: parameters are
float32 arrays in a nested dict with string keys; `axes` has the same structure and one name per dimension. `bind` also
takes values in place of arrays, see models/values.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from jaxlm.models.heads import Head
from jaxlm.models.paths import nest
from jaxlm.models.values import is_value

Params = dict[str, Any]
Dtype = Literal["float32", "bfloat16"]


class Config(Protocol):
    """What a model family has to offer."""

    def module(self, rngs: nnx.Rngs, dtype: jnp.dtype) -> Any: ...


# eq=False: hashed by identity, so that a Model may be a static argument although its config is mutable.
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A model as the rest of the system sees it."""

    config: Any
    heads: Mapping[str, Head]
    dtype: Dtype  # of the computation; parameters are float32
    axes: Params  # logical axis names, one tuple per parameter
    inputs: Params  # how many dimensions of a parameter, behind layers and experts, meet what comes in
    shapes: Params  # `init`'s result as `jax.ShapeDtypeStruct`s
    _graph: nnx.GraphDef

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters. Pure: may be jitted with output shardings, or only shaped (`jax.eval_shape`)."""
        return _parameters(_state(self.config, self.heads, self.dtype, key))

    def bind(self, params: Params) -> Any:
        """The module over these parameters: a pytree, which jitted functions take as an argument, weights and all."""
        module = nnx.merge(self._graph, params)
        for weight in jax.tree.leaves(params, is_leaf=is_value):
            module = weight.around(module) if is_value(weight) else module
        return module


def build(config: Config, heads: Mapping[str, Head] | None = None, *, dtype: Dtype = "float32") -> Model:
    """Everything but the numbers; runs nothing on a device. `heads`: by name, see `Objective.heads`."""
    heads = dict(heads or {})
    graph, state = jax.eval_shape(
        lambda key: nnx.split(_module(config, heads, dtype, key)), jax.random.key(0)
    )
    axes, inputs = {}, {}
    for keys, variable in nnx.to_flat_state(state):
        path, names, shape = (
            "/".join(map(str, keys)),
            variable.get_metadata("axes"),
            variable.get_value().shape,
        )
        if len(names) != len(shape):
            raise ValueError(f"{path}: axes {names} do not match shape {shape}.")
        axes[path], inputs[path] = tuple(names), variable.get_metadata("inputs")
    named = {"axes": nest(axes), "inputs": nest(inputs), "shapes": _parameters(state)}
    return Model(config=config, heads=heads, dtype=dtype, **named, _graph=graph)


def _module(config: Config, heads: Mapping[str, Head], dtype: Dtype, key: jax.Array) -> Any:
    """The body is drawn first: its numbers do not depend on the heads, nor a head's on those behind it."""
    rngs, compute = nnx.Rngs(params=key), jnp.dtype(dtype)
    body = config.module(rngs, compute)
    body.heads = nnx.Dict({name: head.module(config, rngs, compute, body) for name, head in heads.items()})
    return body


def _state(config: Config, heads: Mapping[str, Head], dtype: Dtype, key: jax.Array) -> nnx.State:
    return nnx.state(_module(config, heads, dtype, key))


def _parameters(state: nnx.State) -> Params:
    return nnx.to_pure_dict(state)
