"""Repeated blocks, stacked: one set of arrays with a leading 'layers' axis, whatever way they are run.

In: a function that makes one block. Out: the block with every parameter stacked, and `run`, which applies the layers in
order; `run_cached` does so with a memory that every layer writes a part of; `repeat` applies one block again and again.
Guaranteed: the parameters do not depend on `Loop` or `Remat`; each layer gets its own key.

A block gets what it needs of each row (mask, rotation, source) as an argument `rows`, a pytree with B in front, but for
what is `pipeline.Shared`: whoever runs a part of the batch, or of the layers, slices that. It returns x_BTD, or (x_BTD,
`Extras`); where its mask asks at few places of the row (`Mask.at_BM`), x_BMD of these.

Layers of several kinds that take turns (local and global attention) are a `pattern`: a tuple of what `call` gets as its
last argument, repeated over the layers. A scan then goes over whole patterns; what is left over is unrolled.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxlm.models import dense, kernels, masks, observed, pipeline, splash, traced
from jaxlm.models.apart import Apart, is_apart
from jaxlm.models.encoded import Extras

Loop = Literal["auto", "scan", "unrolled"]
# A scan on a GPU writes what the backward pass needs into arrays of all layers, and copies it out of them again:
# BERT-base at 128 tokens on an H200 takes 1.54 times as long as unrolled, and twice the memory; on two CPU cores 1.12
# times, a small model up to 1.3, SmolLM2's 30 layers 1.19. What is unrolled compiles longer, by the layer: there 37 s
# instead of 8.
_UNROLLED = {"gpu": 48, "cuda": 48, "rocm": 48, "cpu": 32}  # the most layers
# Scores of places x keys that the last layer may make without a kernel: those of a row of 512.
_MOST_SCORES = 512 * 512
# What the backward pass keeps of a block: everything; its input; its input and what a kernel found of attention, which
# costs most for what it takes; that and the products with weights; the same, in the host's memory.
Remat = Literal["none", "block", "attention", "dots", "offload"]
_INPUT = "input of a block"  # its name among what is kept
_TAKEN = {
    "dynamic_slice",
    "gather",
    "squeeze",
    "reshape",
    "convert_element_type",
    "slice",
    "split",
    "transpose",
}


def stacked(make: Callable[[nnx.Rngs], nnx.Module], layers: int, rngs: nnx.Rngs) -> nnx.Module:
    """`layers` blocks in one module: every parameter has a leading axis, named 'layers'."""
    keys = jax.random.split(rngs.params(), layers)
    blocks = jax.vmap(lambda key: make(nnx.Rngs(params=key)))(keys)
    for _, parameter in nnx.to_flat_state(nnx.state(blocks, nnx.Param)):
        parameter.set_metadata(axes=("layers", *parameter.get_metadata("axes")))
    return blocks


def run(
    call: Callable[..., Any],
    blocks: nnx.Module,
    x_BTD: jax.Array,
    rows: Any,
    key: jax.Array | None,
    *,
    layers: int,
    loop: Loop,
    remat: Remat,
    pattern: Sequence[Any] = (),
    at_BM: jax.Array | None = None,
    repeats: int = 1,
) -> tuple[jax.Array, Extras]:
    """`call(block, x_BTD, rows, key[, kind]) -> x_BTD or (x_BTD, Extras)` for every layer; extras come back stacked.

    `key` None is passed on as None. `at_BM`: the only places whose result is read, x_BMD. `repeats`: how often a part
    of the batch goes round the stages, where there are any.
    """
    call = observed.layer(call)
    keys, loop = None if key is None else jax.random.split(key, layers), resolved(loop, layers)
    if 1 < (stages := pipeline.stages()) <= layers:
        calls = _one_per_kind(call, pattern, lambda f: f)
        pipeline.check(layers, stages, len(calls), repeats)

        def of_group(blocks: Any, keys: Any, x_BTD: jax.Array, rows: Any) -> tuple[jax.Array, Extras]:
            enter = lambda x: checkpoint_name(x, _INPUT)
            step = lambda call, x, layer: _with_extras(call(layer[0], enter(x), rows, layer[1]))
            return _run(step, calls, x_BTD, (blocks, keys), layers // (stages * repeats), loop)

        x_BTD, extras = pipeline.run(
            of_group, blocks, keys, x_BTD, rows, repeats=repeats, kept=_kept(remat, _INPUT)
        )
        return x_BTD if at_BM is None else masks.at_places(x_BTD, at_BM), extras
    calls = _one_per_kind(call, pattern, lambda f: _rematerialised(f, remat, loop))
    step = lambda rows: lambda call, x, layer: _with_extras(call(layer[0], x, rows, layer[1]))
    return _read(at_BM, step, rows, calls, x_BTD, (blocks, keys), layers, loop)


def repeat(
    call: Callable[..., Any],
    block: nnx.Module,
    x_BTD: jax.Array,
    rows: Any,
    key: jax.Array | None,
    *,
    layers: int,
    loop: Loop,
    remat: Remat,
    at_BM: jax.Array | None = None,
) -> tuple[jax.Array, Extras]:
    """`run` with the same weights in every layer (ALBERT). UserError on a mesh with stages."""
    pipeline.check_shared()
    call = observed.layer(call)
    keys, loop = None if key is None else jax.random.split(key, layers), resolved(loop, layers)
    call = _rematerialised(call, remat, loop)
    step = lambda rows: lambda call, x, layer: _with_extras(call(block, x, rows, layer[0]))
    return _read(at_BM, step, rows, [call], x_BTD, (keys, jnp.arange(layers)), layers, loop)


def _read(
    at_BM: jax.Array | None, step: Callable, rows: Any, calls: Sequence[Callable], x_BTD: jax.Array, *how: Any
) -> tuple[jax.Array, Extras]:
    """All layers (`_run`). Where few places are read and layers stand one by one, the last computes these alone."""
    if at_BM is None:
        return _run(step(rows), calls, x_BTD, *how)
    last, places = None, at_BM.shape[1]
    # Layers of which something is kept are all alike.
    if how[-1] == "unrolled" and not observed.asked() and pays(places, x_BTD.shape[1]):
        is_mask = lambda leaf: isinstance(leaf, masks.Mask)
        ask = lambda leaf: masks.at(leaf, at_BM) if is_mask(leaf) else leaf
        last = step(jax.tree.map(ask, rows, is_leaf=is_mask))
    x_BTD, extras = _run(step(rows), calls, x_BTD, *how, last=last)
    # Blocks that have no mask among their rows compute all.
    alone = last is not None and x_BTD.shape[1] == places
    return x_BTD if alone else masks.at_places(x_BTD, at_BM), extras


def pays(places: int, length: int) -> bool:
    """Not where most is read, nor where scores of places x length would be many: no kernel makes them."""
    return traced.known(length) and 2 * places <= length and places * length <= _MOST_SCORES


def _with_extras(out: Any) -> tuple[jax.Array, Extras]:
    return out if isinstance(out, tuple) else (out, Extras())


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
    loop = resolved(loop, layers)
    # Where layers stand one by one their numbers are known: a cache may hold an array for each.
    numbers = Apart(list(range(layers))) if loop == "unrolled" else jnp.arange(layers)
    return _run(step, calls, (x_BTD, cache), (blocks, numbers), layers, loop)[0]


def each(call: Callable[[Any], Any], blocks: nnx.Module, *, layers: int, loop: Loop) -> Any:
    """`call(block)` of every layer, stacked."""
    step = lambda call, x, block: (x, call(block))
    return _run(step, [call], (), blocks, layers, resolved(loop, layers))[1]


def resolved(loop: Loop, layers: int) -> Loop:
    """What 'auto' is on the devices of the program that is traced: a scan on TPUs and where there are many layers."""
    if loop != "auto":
        return loop
    return "unrolled" if layers <= _UNROLLED.get(kernels.platform(), 0) else "scan"


def _one_per_kind(
    call: Callable, pattern: Sequence[Any], wrap: Callable[[Callable], Callable]
) -> list[Callable]:
    bound = lambda kind: lambda *arguments: call(*arguments, kind)
    return [wrap(bound(kind)) for kind in pattern] if pattern else [wrap(call)]


def _run(
    step: Callable,
    calls: Sequence[Callable],
    x: Any,
    stacked: Any,
    layers: int,
    loop: Loop,
    last: Callable | None = None,
) -> tuple[Any, Any]:
    """`step(call, x, layer) -> (x, out)`, layer by layer; the outs are stacked. `last`: the last one's, unrolled."""
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
        own = last if last and i == layers - 1 else step
        x, out = own(calls[i % period], x, layer)
        singles.append(out)
    if singles:
        outs.append(_stack(singles))
    return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _unstack(tree: Any, layers: int) -> list[Any]:
    """One tree per layer. `split`, since its gradient is one concatenation; x[i]'s would be L padded sums."""
    leaves, structure = jax.tree.flatten(tree, is_leaf=is_apart)
    cut = lambda leaf: [piece.squeeze(0) for piece in jax.lax.split(leaf, (1,) * layers)]
    pieces = [leaf.layers if is_apart(leaf) else cut(leaf) for leaf in leaves]
    return [structure.unflatten([piece[i] for piece in pieces]) for i in range(layers)]


def _rematerialised(call: Callable, remat: Remat, loop: Loop) -> Callable:
    if remat == "none":
        return call
    # A scan's body is compiled apart from its backward twin, so nothing can merge the two and undo the
    # saving.
    return jax.checkpoint(call, policy=_kept(remat), prevent_cse=loop != "scan")


def _kept(remat: Remat, *also: str) -> Callable[..., Any]:
    """The policy of `jax.checkpoint`; `also`: what else is kept of what has a name."""
    names, policies = [dense.PRODUCT, splash.KEPT], jax.checkpoint_policies
    return {
        "none": _computed,
        "block": policies.save_only_these_names(*also),
        "attention": policies.save_only_these_names(splash.KEPT, *also),
        "dots": policies.save_only_these_names(*names, *also),
        "offload": policies.save_and_offload_only_these_names(
            names_which_can_be_saved=list(also),
            names_which_can_be_offloaded=names,
            offload_src="device",
            offload_dst="pinned_host",
        ),
    }[remat]


def _computed(primitive: Any, *_: Any, **__: Any) -> bool:
    """Everything but what is only taken out of an array or cast: a step's weights, which the next have, too."""
    return primitive.name not in _TAKEN
