"""Cross-entropy and accuracy as (sum, weight). In: logits, targets, weights. Out: float32 sums over everything.

Slots of weight 0 contribute exactly 0, whatever the model says there.
"""

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Pair


def cross_entropy(logits: Array, targets: Array, weights: Array) -> Pair:
    """Sum of -log p(target) in nats over slots, times weight. Shapes: logits [..., classes], the others [...]."""
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1, mode="clip")[..., 0]
    nats = jax.nn.logsumexp(logits, axis=-1) - picked
    return jnp.where(weights > 0, nats * weights, 0.0).sum(), weights.sum()


def accuracy(logits: Array, targets: Array, weights: Array) -> Pair:
    """Number of slots where the largest logit is the target's."""
    hit = jnp.argmax(logits, axis=-1) == targets
    return jnp.where(hit, weights, 0.0).sum(), weights.sum()


def count(weights: Array) -> Array:
    """The weight of all slots together; what cross_entropy returns as its weight."""
    return weights.sum()


def gather_positions(x_BTD: Array, positions_BM: Array) -> Array:
    """x_BMD: the vectors at the given positions of every row."""
    return jnp.take_along_axis(x_BTD, positions_BM[:, :, None], axis=1, mode="clip")
