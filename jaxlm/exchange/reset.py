"""The top layers of weights that exist begin anew. In: parameters that were read and drawn. Out: a mixture of both."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.errors import UserError
from jaxlm.models.build import Model
from jaxlm.models.paths import flatten, nest
from jaxlm.optim import around


def top(number: int, model: Model, read: Any, drawn: Any, say: Callable[[str], None]) -> Any:
    """`read`, but for the pooler and the `number` layers nearest to the heads, which are as drawn; laid out as `read`.

    Zhang et al., 2006.05987: 1 to 6 of 24. An encoder-decoder loses as many on each side. UserError when it has fewer.
    """
    leaves, structure = jax.tree.flatten(read)
    depths = flatten(structure.unflatten(around.depths(model.axes, [leaf.shape for leaf in leaves])))
    layers = max((int(depth_L.max()) for depth_L in depths.values() if np.ndim(depth_L)), default=0)
    if number > layers:
        raise UserError(f"config.reset_layers={number}: there are {layers} layers with weights of their own.")
    made, fresh = flatten(read), flatten(drawn)

    def mixed(new: jax.Array, old: jax.Array, depth_L: jax.Array) -> jax.Array:
        return jnp.where((depth_L <= number).reshape(-1, *[1] * (old.ndim - 1)), new, old)

    for path, depth in depths.items():
        if path.startswith("heads/pooler/"):
            made[path] = fresh[path]
        elif np.ndim(depth):
            made[path] = jax.jit(mixed, out_shardings=made[path].sharding)(fresh[path], made[path], depth)
    say(f"  as drawn: the top {number} of {layers} layers, and the pooler if there is one")
    return nest(made)
