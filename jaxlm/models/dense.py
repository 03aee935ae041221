"""A weight applied to every token.

In: x of any rank, whose last dimensions meet the first of the weight. Out: the contraction. Guaranteed: the same
numbers, to rounding, on every platform; nothing is merged that a mesh may have split.
"""

import math

import jax
import jax.numpy as jnp

from jaxlm.models.kernels import platform
from jaxlm.models.values import Value


def dense(
    x: jax.Array, weight: jax.Array | Value, *, contracted: int = 1, result: jnp.dtype | None = None
) -> jax.Array:
    """x_BTD, weight_DNH -> y_BTNH; with contracted=2: x_BTNH, weight_NHD -> y_BTD.

    `result` is the dtype of sums and result, if it is not that of x.
    """
    if isinstance(weight, Value):
        return weight.product(x, contracted, result)
    if platform() != "cpu" or jax.sharding.get_abstract_mesh().size > 1:
        return jnp.tensordot(x, weight, contracted, preferred_element_type=result)
    # As one product of matrices: contracted over B and T apart, a weight's gradient makes XLA:CPU copy transposes
    # and leave its fast path (MLP of BERT-base, 8x128, forward and backward: 321 -> 278 ms of CPU time).
    rows, outputs = x.shape[: x.ndim - contracted], weight.shape[contracted:]
    inner = math.prod(weight.shape[:contracted])
    y = jnp.matmul(x.reshape(-1, inner), weight.reshape(inner, -1), preferred_element_type=result)
    return y.reshape(*rows, *outputs)
