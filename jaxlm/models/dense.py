"""A weight applied to every token.

In: x of any rank, whose last dimensions meet the first of the weight. Out: the contraction. Guaranteed: the same
numbers, to rounding, on every platform; nothing is merged that a mesh may have split.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxlm.models.kernels import platform
from jaxlm.models.values import Value

# Compiled, a step of Llama-7B (4,096 wide) on v5e has 5 % fewer cycles with `apart`; Llama-1B (2,048) on v6e 1 % more,
# T5 (768) on v5e 6 %.
_WIDE = 4096
PRODUCT = "product"  # what `stack.Remat` calls a result by


def dense(
    x: jax.Array, weight: jax.Array | Value, *, contracted: int = 1, result: jnp.dtype | None = None
) -> jax.Array:
    """x_BTD, weight_DNH -> y_BTNH; with contracted=2: x_BTNH, weight_NHD -> y_BTD.

    `result` is the dtype of sums and result, if it is not that of x; its gradient is rounded to that of x.
    """
    if isinstance(weight, Value):
        return weight.product(x, contracted, result)
    if result is not None and result != x.dtype:
        return _wide(contracted, result, x, weight)
    return _dense(x, weight, contracted, None)


def _dense(x: jax.Array, weight: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
    if platform() != "cpu" or jax.sharding.get_abstract_mesh().size > 1:
        y = jnp.tensordot(x, weight, contracted, preferred_element_type=result)
        return checkpoint_name(y, PRODUCT)
    # As one product of matrices: contracted over B and T apart, a weight's gradient makes XLA:CPU copy transposes
    # and leave its fast path (MLP of BERT-base, 8x128, forward and backward: 321 -> 278 ms of CPU time).
    rows, outputs = x.shape[: x.ndim - contracted], weight.shape[contracted:]
    inner = math.prod(weight.shape[:contracted])
    y = jnp.matmul(x.reshape(-1, inner), weight.reshape(inner, -1), preferred_element_type=result)
    return checkpoint_name(y.reshape(*rows, *outputs), PRODUCT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _wide(contracted: int, result: jnp.dtype, x: jax.Array, weight: jax.Array) -> jax.Array:
    return _dense(x, weight, contracted, result)


def _wide_forward(
    contracted: int, result: jnp.dtype, x: jax.Array, weight: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _dense(x, weight, contracted, result), (x, weight)


def _wide_backward(
    contracted: int, result: jnp.dtype, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    # Left wide, both products of the backward pass are of float32: twice as long (GPT-2 on an H200: 8 of 46 ms a step).
    backward = jax.vjp(lambda x, weight: _dense(x, weight, contracted, None), *kept)[1]
    return backward(g.astype(kept[0].dtype))


_wide.defvjp(_wide_forward, _wide_backward)


def apart(tree: Any, width: int) -> Any:
    """The same arrays, which a TPU writes down before it goes on, if the products around them contract so much.

    Its compiler makes what comes before and after them, and their gradients, a part of these products, which then take
    up to twice as long; products of narrow models wait for memory, and gain by it.
    """
    return jax.lax.optimization_barrier(tree) if platform() == "tpu" and width >= _WIDE else tree
