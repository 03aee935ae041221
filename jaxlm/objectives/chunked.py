"""Sums over the slots of a batch, some of every row at a time. In: a function of slots. Out: its sums over all of them.

Guaranteed: whatever the function makes of slots (logits of a vocabulary) exists for one chunk alone, and is made once:
the gradient of a chunk is formed beside its sums, in the forward pass, where a derivative is asked for. Weights that
the function reads have float32 sums of their gradients then, if float32 they are.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array

Sums = dict[str, Array]


def summed(
    function: Callable[..., Sums], chunk: int, x_BMD: Array, *others: Array, held: tuple[Any, ...] = ()
) -> Sums:
    """`function(x_BCD, *others_BC, *held)` summed over chunks of `chunk` slots, and the rest; 0: all at once.

    Differentiated is the sum `term` alone, with respect to x_BMD and what `function` closes over: not `held`.
    """
    slots = x_BMD.shape[1]
    if not 0 < chunk < slots:
        return function(x_BMD, *others, *held)
    whole = slots // chunk * chunk
    total = _over(function, chunk, held, *(a[:, :whole] for a in (x_BMD, *others)))
    if whole < slots:
        rest = _over(function, slots - whole, held, *(a[:, whole:] for a in (x_BMD, *others)))
        total = jax.tree.map(jnp.add, total, rest)
    return total


def _over(function: Callable[..., Sums], size: int, held: tuple[Any, ...], *arrays: Array) -> Sums:
    # The chunks lead, so that the rows stay where the mesh has them.
    split = lambda a: jnp.moveaxis(a.reshape(a.shape[0], -1, size, *a.shape[2:]), 1, 0)
    x_NBCD, *others_NBC = map(split, arrays)
    function, weights = jax.closure_convert(function, x_NBCD[0], *(a[0] for a in others_NBC), *held)
    return _summed(function, (weights, held), x_NBCD, others_NBC)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(function: Callable[..., Sums], read: Any, x_NBCD: Array, others_NBC: list[Array]) -> Sums:
    weights, held = read

    def add(total: Sums, one: tuple[Array, list[Array]]) -> tuple[Sums, None]:
        return jax.tree.map(jnp.add, total, function(one[0], *one[1], *held, *weights)), None

    like = jax.eval_shape(lambda: function(x_NBCD[0], *(a[0] for a in others_NBC), *held, *weights))
    return jax.lax.scan(add, _zeros(like), (x_NBCD, others_NBC))[0]


def _forward(
    function: Callable[..., Sums], read: Any, x_NBCD: Array, others_NBC: list[Array]
) -> tuple[Sums, Any]:
    weights, held = read

    def of_chunk(weights: Any, x_BCD: Array, others_BC: list[Array]) -> tuple[Array, Sums]:
        found = function(x_BCD, *others_BC, *held, *weights)
        return found["term"], found

    gradient = jax.grad(of_chunk, (0, 1), has_aux=True)

    def add(total: Any, one: tuple[Array, list[Array]]) -> tuple[Any, Array]:
        (of_weights, of_x_BCD), found = gradient(weights, *one)
        return jax.tree.map(jnp.add, total, (found, of_weights)), of_x_BCD

    like = jax.eval_shape(lambda: of_chunk(weights, x_NBCD[0], [a[0] for a in others_NBC])[1])
    (found, of_weights), of_x_NBCD = jax.lax.scan(add, (_zeros(like), _zeros(weights)), (x_NBCD, others_NBC))
    return found, (of_weights, of_x_NBCD, others_NBC, held)


def _backward(function: Callable[..., Sums], kept: Any, g: Sums) -> tuple[Any, Array, Any]:
    of_weights, of_x_NBCD, others_NBC, held = kept
    scaled = lambda a: (a * g["term"]).astype(a.dtype)  # g is float32
    nothing = lambda tree: jax.tree.map(lambda _: None, tree)
    return (jax.tree.map(scaled, of_weights), nothing(held)), scaled(of_x_NBCD), nothing(others_NBC)


def _zeros(like: Any) -> Any:
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)


_summed.defvjp(_forward, _backward)
