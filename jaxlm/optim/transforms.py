"""Gradient transformations that optax lacks. In: gradients, parameters, layouts. Out: updates.

The gradient norm and the learning rate are kept in the state, where logging reads them (`measures`). LAMB's
trust ratio is that of every matrix of a stacked parameter (see matrices.py). Moments have the shape of their
parameter.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxlm.optim.matrices import Dimensions
from jaxlm.optim.schedules import Rate


class ClipState(NamedTuple):
    """`grad_norm`: global norm of the last gradient, before clipping."""

    grad_norm: jax.Array


class RateState(NamedTuple):
    """`step`: updates done; `learning_rate`: what the last of them used."""

    step: jax.Array
    learning_rate: jax.Array


def clip(max_norm: float) -> optax.GradientTransformation:
    """Scales the gradient down to a global norm of `max_norm` (0: never) and remembers the norm."""

    def init(params: Any) -> ClipState:
        return ClipState(jnp.zeros((), jnp.float32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, ClipState]:
        norm = jnp.asarray(optax.global_norm(updates), jnp.float32)
        if max_norm > 0:
            scale = max_norm / jnp.maximum(norm, max_norm)
            updates = jax.tree.map(lambda g: g * scale, updates)
        return updates, ClipState(norm)

    return optax.GradientTransformation(init, update)


def descend(rate: Rate) -> optax.GradientTransformation:
    """Multiplies by -rate(step), and remembers the rate."""

    def init(params: Any) -> RateState:
        return RateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, RateState]:
        now = jnp.asarray(rate(state.step), jnp.float32)
        updates = jax.tree.map(lambda u: -now * u, updates)
        return updates, RateState(state.step + 1, now)

    return optax.GradientTransformation(init, update)


def measures(opt_state: Any) -> dict[str, jax.Array]:
    """`learning_rate` and `grad_norm` of the update that returned this state: scalars on the device."""
    keep = lambda x: isinstance(x, (ClipState, RateState))
    found: dict[str, jax.Array] = {}
    for node in jax.tree.leaves(opt_state, is_leaf=keep):
        if isinstance(node, ClipState):
            found["grad_norm"] = node.grad_norm
        elif isinstance(node, RateState):
            found["learning_rate"] = node.learning_rate
    return found


class MomentsState(NamedTuple):
    """First and second moment of the gradient."""

    mu: Any
    nu: Any


def scale_by_bert_adam(b1: float, b2: float, epsilon: float) -> optax.GradientTransformation:
    """Adam without bias correction, mu / (sqrt(nu) + epsilon), as google-research/bert has it."""

    def init(params: Any) -> MomentsState:
        zeros = lambda: jax.tree.map(lambda p: jnp.zeros_like(p, jnp.float32), params)
        return MomentsState(zeros(), zeros())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MomentsState]:
        mu = jax.tree.map(lambda m, g: b1 * m + (1.0 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1.0 - b2) * g * g, state.nu, updates)
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + epsilon), mu, nu)
        return updates, MomentsState(mu, nu)

    return optax.GradientTransformation(init, update)


def scale_by_trust_ratio(layouts: Any) -> optax.GradientTransformation:
    """LAMB's |w| / |u| for every matrix of a stack; 1 for vectors and for zero weights or updates."""

    def scaled(u: jax.Array, p: jax.Array, layout: Dimensions) -> jax.Array:
        if not layout.is_matrix:
            return u
        w_norm, u_norm = (jnp.sqrt(jnp.sum(x * x, layout.features, keepdims=True)) for x in (p, u))
        defined = (w_norm > 0) & (u_norm > 0)
        return u * jnp.where(defined, w_norm / jnp.where(defined, u_norm, 1.0), 1.0)

    return optax.stateless(lambda updates, params: jax.tree.map(scaled, updates, params, layouts))
