"""What a model costs: parameters, and floating-point operations of a training step.

Convention: only matrix products count (`dot_general`, and `ragged_dot`, where every row meets the matrix of its group
alone; 2 x multiply-adds, scan bodies times their length), and other products raise; a training step is 3 x the forward
pass (one more product for the gradient of each operand), without recomputation by remat or flash kernels; attention is
counted at the full T x S, also where a causal mask or segments make half of it useless; prediction heads are counted at
the positions they run on, over the padded vocabulary. Embedding look-ups count nothing.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxlm.batch import Batch
from jaxlm.models import build, kernels
from jaxlm.models.embed import padded
from jaxlm.models.heads import Head

# What multiplies matrices, or may, and is not counted.
_PRODUCT = re.compile(r"dot|conv_|gemm|matmul|attention|fft|cholesky|solve|pallas_call|ffi_call|custom_call")


def count_parameters(params: Any, axes: Any | None = None) -> int:
    """Numbers in a tree of arrays or shapes. Given `axes`, embeddings are left out.

    An embedding is a table of vectors: a 'vocab', 'positions' or 'types' axis next to an 'embed' axis.
    """
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    if axes is None:
        return total
    names = jax.tree.leaves(axes, is_leaf=lambda x: isinstance(x, tuple))
    tables = [
        math.prod(leaf.shape)
        for leaf, name in zip(jax.tree.leaves(params), names, strict=True)
        if "embed" in name and {"vocab", "positions", "types"} & set(name)
    ]
    return total - sum(tables)


def count_real_parameters(model: build.Model) -> int:
    """Numbers of a model without the padding of its vocabulary: what is published."""
    total = 0
    axes = jax.tree.leaves(model.axes, is_leaf=lambda x: isinstance(x, tuple))
    for leaf, names in zip(jax.tree.leaves(model.shapes), axes, strict=True):
        sizes = zip(leaf.shape, names, strict=True)
        total += math.prod(model.config.vocab_size if name == "vocab" else size for size, name in sizes)
    return total


def flops_per_token(config: Any, length: int) -> float:
    """Training FLOPs of a decoder per token of full rows, a target at every position, without padding: as published.

    It is 6 x (parameters in matrix products) + 12 x layers x heads x head width x length (PaLM, 2204.02311, app. B).
    """
    row = jax.ShapeDtypeStruct((1, length), jnp.int32)
    batch = Batch(tokens_BT=row, segments_BT=row, positions_BT=row)
    loss = lambda module, batch: module.predict_tokens(module.encode(batch, None).x_BTD).sum()
    padding = 6 * (padded(config.vocab_size) - config.vocab_size) * config.hidden
    return training_flops(config, loss, batch) / length - padding


def training_flops(
    config: build.Config,
    loss: Callable[[Any, Batch], jax.Array],
    batch: Any,
    heads: Mapping[str, Head] | None = None,
) -> int:
    """FLOPs of one training step on `batch` (arrays or shapes, the whole global batch).

    `loss(module, batch)` gives the scalar to minimise. It is traced abstractly with plain attention, so the
    answer is the same whatever kernel, loop or remat policy runs.
    """
    plain: Any = dataclasses.replace(config, attention="xla", remat="none")  # type: ignore[type-var]
    model = build.build(plain, heads)
    return 3 * forward_flops(lambda params, batch: loss(model.bind(params), batch), model.shapes, batch)


def forward_flops(function: Callable, *arguments: Any) -> int:
    """FLOPs of the matrix products in one call of `function`, every score counted; arguments may be shapes."""
    with kernels.whole_scores():
        return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in ("dot_general", "ragged_dot_general"):
            total += _dot_flops(equation)
            continue
        if _PRODUCT.search(name):
            raise ValueError(f"FLOPs of {name} cannot be counted (a kernel: trace with plain attention).")
        inner = [_count(inner) for inner in _inner_jaxprs(equation)]
        if name == "cond":
            total += max(inner)
        elif name == "while" and any(inner):
            raise ValueError("A while loop with matrix products has no static count; use scan.")
        else:
            total += sum(inner) * _repeats(equation)
    return total


def _repeats(equation: Any) -> int:
    """How often what is inside runs: the rounds of a scan, the devices that a shard_map hands their parts."""
    if equation.primitive.name == "shard_map":
        mesh = equation.params["mesh"]
        return math.prod(mesh.shape[axis] for axis in equation.params["newly_manual_axes"])
    return equation.params["length"] if equation.primitive.name == "scan" else 1


def _dot_flops(equation: Any) -> int:
    """Every entry of the left operand meets the right operand's free dimensions; groups are not among them."""
    ragged = equation.params.get("ragged_dot_dimension_numbers")
    numbers = ragged.dot_dimension_numbers if ragged else equation.params["dimension_numbers"]
    (_, contracted), (_, batch) = numbers
    shared = {*contracted, *batch, *(ragged.rhs_group_dimensions if ragged else ())}
    left, right = (operand.aval.shape for operand in equation.invars[:2])
    return 2 * math.prod(left) * math.prod(size for i, size in enumerate(right) if i not in shared)


def _inner_jaxprs(equation: Any) -> Iterator[core.Jaxpr]:
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item
