"""The only file that takes Flax modules apart: a model config becomes pure functions over plain nested dicts.

In: a config with `.module(rngs, dtype)`. Out: a `Model` with `init`, `bind` and `axes`. Guaranteed:
parameters are float32 arrays in a nested dict with string keys; `axes` has the same structure and one name
per dimension.
"""

import dataclasses
import functools
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

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
    dtype: Dtype  # of the computation; parameters are float32
    axes: Params  # logical axis names, one tuple per parameter
    _graph: nnx.GraphDef

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters. Pure: may be jitted with output shardings, or only shaped (`jax.eval_shape`)."""
        return _parameters(_state(self.config, self.dtype, key))

    def bind(self, params: Params) -> Any:
        """The module over these parameters: a pytree, which jitted functions take as an argument, weights and all."""
        return nnx.merge(self._graph, params)

    @functools.cached_property
    def shapes(self) -> Params:
        """`init`'s result as `jax.ShapeDtypeStruct`s."""
        return jax.eval_shape(self.init, jax.random.key(0))


def build(config: Config, *, dtype: Dtype = "float32") -> Model:
    """Everything but the numbers; runs nothing on a device."""
    graph, state = jax.eval_shape(lambda key: nnx.split(_module(config, dtype, key)), jax.random.key(0))
    axes: Params = {}
    for path, variable in nnx.to_flat_state(state):
        names, shape = variable.get_metadata("axes"), variable.get_value().shape
        if len(names) != len(shape):
            raise ValueError(f"{'/'.join(map(str, path))}: axes {names} do not match shape {shape}.")
        *outer, name = map(str, path)
        inner = axes
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[name] = tuple(names)
    return Model(config=config, dtype=dtype, axes=axes, _graph=graph)


def _module(config: Config, dtype: Dtype, key: jax.Array) -> Any:
    return config.module(nnx.Rngs(params=key), jnp.dtype(dtype))


def _state(config: Config, dtype: Dtype, key: jax.Array) -> nnx.State:
    return nnx.state(_module(config, dtype, key))


def _parameters(state: nnx.State) -> Params:
    return nnx.to_pure_dict(state)
