"""Repeated blocks, stacked: one set of arrays with a leading 'layers' axis, whatever way they are run.

In: a function that makes one block. Out: the block with every parameter stacked, and `run`, which applies
the layers in order. Guaranteed: the parameters do not depend on `Loop` or `Remat`; each layer gets its own
key.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
from flax import nnx

Loop = Literal["scan", "unrolled"]
# What the backward pass keeps of a block: everything; its input; its input and the results of its weight
# matmuls.
Remat = Literal["none", "block", "dots"]


def stacked(make: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> nnx.Module:
    """`layers` blocks in one module: every parameter has a leading axis, named 'layers'."""
    keys = jax.random.split(rngs.params(), layers)
    blocks = jax.vmap(lambda key: make(nnx.Rngs(params=key)))(keys)
    for _, parameter in nnx.to_flat_state(nnx.state(blocks, nnx.Param)):
        parameter.set_metadata(axes=("layers", *parameter.get_metadata("axes")))
    return blocks


def run(
    call: Callable[[Any, jax.Array, jax.Array | None], jax.Array],
    blocks: nnx.Module,
    x_BTD: jax.Array,
    key: jax.Array | None,
    *,
    layers: int,
    loop: Loop,
    remat: Remat,
) -> jax.Array:
    """`call(block, x_BTD, key) -> x_BTD` for every layer. `key` None is passed on as None."""
    keys = None if key is None else jax.random.split(key, layers)
    call = _rematerialised(call, remat, loop)
    if loop == "scan":
        x_BTD, _ = jax.lax.scan(lambda x, layer: (call(layer[0], x, layer[1]), None), x_BTD, (blocks, keys))
        return x_BTD
    for block, block_key in zip(_unstack(blocks, layers), _unstack(keys, layers), strict=True):
        x_BTD = call(block, x_BTD, block_key)
    return x_BTD


def _unstack(tree: Any, layers: int) -> list[Any]:
    """One tree per layer. `split`, since its gradient is one concatenation; x[i]'s would be L padded sums."""
    leaves, structure = jax.tree.flatten(tree)
    pieces = [jax.lax.split(leaf, (1,) * layers) for leaf in leaves]
    return [structure.unflatten([piece[i].squeeze(0) for piece in pieces]) for i in range(layers)]


def _rematerialised(call: Callable, remat: Remat, loop: Loop) -> Callable:
    if remat == "none":
        return call
    policies = {"block": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}
    # A scan's body is compiled apart from its backward twin, so nothing can merge the two and undo the
    # saving.
    return jax.checkpoint(call, policy=policies[remat], prevent_cse=loop != "scan")
