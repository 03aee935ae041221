"""Repeated blocks, stacked: one set of arrays with a leading 'layers' axis, whatever way they are run.

In: a function that makes one block. Out: the block with every parameter stacked, and `run`, which applies the layers in
order; `run_cached` does so with a memory that every layer writes a part of; `repeat` applies one block again and again.
Guaranteed: the parameters do not depend on `Loop` or `Remat`; each layer gets its own key.

Layers of several kinds that take turns (local and global attention) are a `pattern`: a tuple of what `call` gets as its
last argument, repeated over the layers. A scan then goes over whole patterns; what is left over is unrolled.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
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
    call: Callable[..., jax.Array],
    blocks: nnx.Module,
    x_BTD: jax.Array,
    key: jax.Array | None,
    *,
    layers: int,
    loop: Loop,
    remat: Remat,
    pattern: Sequence[Any] = (),
) -> jax.Array:
    """`call(block, x_BTD, key[, kind]) -> x_BTD` for every layer. `key` None is passed on as None."""
    keys = None if key is None else jax.random.split(key, layers)
    calls = _one_per_kind(call, pattern, lambda f: _rematerialised(f, remat, loop))
    step = lambda call, x, layer: (call(layer[0], x, layer[1]), None)
    return _run(step, calls, x_BTD, (blocks, keys), layers, loop)[0]


def repeat(
    call: Callable[[jax.Array, jax.Array | None], jax.Array],
    x_BTD: jax.Array,
    key: jax.Array | None,
    *,
    layers: int,
    loop: Loop,
    remat: Remat,
) -> jax.Array:
    """`call(x_BTD, key) -> x_BTD`, `layers` times with the same weights (ALBERT). `key` None is passed on as None."""
    keys = None if key is None else jax.random.split(key, layers)
    call = _rematerialised(call, remat, loop)
    if loop == "scan":
        return jax.lax.scan(lambda x, key: (call(x, key), None), x_BTD, keys, length=layers)[0]
    for i in range(layers):
        x_BTD = call(x_BTD, None if keys is None else keys[i])
    return x_BTD


def run_cached(
    call: Callable[..., tuple[jax.Array, Any]],
    blocks: nnx.Module,
    x_BTD: jax.Array,
    cache: Any,
    *,
    layers: int,
    loop: Loop,
    pattern: Sequence[Any] = (),
) -> tuple[jax.Array, Any]:
    """`call(block, x_BTD, cache, layer[, kind]) -> (x_BTD, cache)` for every layer, `layer` being its number.

    The cache goes whole from layer to layer and each writes its own part, in place: were it taken apart and stacked
    again, every token would copy all of it.
    """
    calls = _one_per_kind(call, pattern, lambda f: f)
    step = lambda call, carry, layer: (call(layer[0], *carry, layer[1]), None)
    return _run(step, calls, (x_BTD, cache), (blocks, jnp.arange(layers)), layers, loop)[0]


def _one_per_kind(
    call: Callable, pattern: Sequence[Any], wrap: Callable[[Callable], Callable]
) -> list[Callable]:
    bound = lambda kind: lambda *arguments: call(*arguments, kind)
    return [wrap(bound(kind)) for kind in pattern] if pattern else [wrap(call)]


def _run(
    step: Callable, calls: Sequence[Callable], x: Any, stacked: Any, layers: int, loop: Loop
) -> tuple[Any, Any]:
    """`step(call, x, layer) -> (x, out)`, layer by layer; the outs are stacked."""
    period = len(calls)
    groups = layers // period if loop == "scan" else 0

    def group(x: Any, layer: Any) -> tuple[Any, Any]:
        if period == 1:
            return step(calls[0], x, layer)
        outs = []
        for call, one in zip(calls, _unstack(layer, period), strict=True):
            x, out = step(call, x, one)
            outs.append(out)
        return x, _stack(outs)

    if groups == layers:
        return jax.lax.scan(group, x, stacked)
    outs = []
    if groups:
        whole = jax.tree.map(lambda a: a[: groups * period].reshape(groups, period, *a.shape[1:]), stacked)
        x, out = jax.lax.scan(group, x, whole)
        outs.append(jax.tree.map(lambda a: a.reshape(groups * period, *a.shape[2:]), out))
    rest = jax.tree.map(lambda a: a[groups * period :], stacked) if groups else stacked
    singles = []
    for i, layer in enumerate(_unstack(rest, layers - groups * period)):
        x, out = step(calls[i % period], x, layer)
        singles.append(out)
    if singles:
        outs.append(_stack(singles))
    return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


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
