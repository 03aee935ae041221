"""Cross-entropy and accuracy as (sum, weight). In: logits, targets, weights. Out: float32 sums over everything.

Slots of weight 0 contribute exactly 0, whatever the model says there. `of_tokens` is the one loss of token prediction:
with `chunk` the logits of [B, T, V] never exist, forward or backward. Temporary memory is then about
2 * B * chunk * V * 4 bytes (logits and their gradient) instead of the same with all positions for `chunk`, and
V * D * 4 for the gradient of the head as it adds up; on a mesh that splits the head, as much again for the head
(partition.rows).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Loss, Pair
from jaxlm.models.activations import constrain
from jaxlm.models.encoded import Encoded
from jaxlm.models.masks import at_places
from jaxlm.objectives import chunked
from jaxlm.objectives.predictions import Logits
from jaxlm.objectives.targets import TokenTargets
from jaxlm.partition import rows

# Entries of a padded vocabulary are -1e9: no tokens, so label smoothing gives them no share.
PADDING_LOGIT = -1e8


def encode_tokens(
    model: Any, batch: Batch, key: Array | None, targets: TokenTargets
) -> tuple[Encoded, Logits]:
    """A pass that is read at the targets' places alone, and what the model's own head says there."""
    encoded = model.encode(batch, key, at_BM=targets.places_BM)
    return encoded, at_targets(model, encoded.x_BTD, targets)


def token_logits(model: Any, x_BTD: Array, targets: TokenTargets) -> Logits:
    """What the model's own head says at the targets' places, or at every position without any; x_BTD of all places."""
    x_BMD = x_BTD if targets.places_BM is None else at_places(x_BTD, targets.places_BM)
    return at_targets(model, x_BMD, targets)


def at_targets(model: Any, x_BMD: Array, targets: TokenTargets) -> Logits:
    """What the model's own head says of features at the targets' places (of all, where they name none)."""
    x_BMD = constrain(
        x_BMD, "batch", "length", None
    )  # else devices that share a vocabulary gather them chunk by chunk
    return Logits(x_BMD, model, lambda model, x_BMD: model.predict_tokens(x_BMD), targets.weights_BM)


def of_tokens(
    logits: Logits,
    ids_BM: Array,
    name: str,
    *,
    chunk: int = 0,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
) -> Loss:
    """Term `name`; measures `{name}_loss` (plain nats), `{name}_accuracy` and, with z_loss, `{name}_z`.

    The term is the cross-entropy of `ids_BM` with `label_smoothing` spread evenly over the vocabulary (Vaswani et al.,
    1706.03762), plus z_loss * log(Z)^2 (PaLM, 2204.02311). `chunk`: slots of a row handled at once, with their
    gradient; 0: all at once.
    """

    def sums(model: Any, *slots: Array) -> dict[str, Array]:
        def of_chunk(x_BMD: Array, ids_BM: Array, weights_BM: Array) -> dict[str, Array]:
            logits_BMV = logits.head(model, x_BMD).astype(jnp.float32)
            return _sums(logits_BMV, ids_BM, weights_BM, z_loss, label_smoothing)

        return chunked.summed(of_chunk, chunk, *slots)

    slots = (logits.x_BMD, ids_BM, logits.weights_BM)
    many = 0 < chunk < logits.x_BMD.shape[1]
    totals = rows.summed(sums, logits.model, *slots) if many else sums(logits.model, *slots)
    weight = count(logits.weights_BM)
    measures = {f"{name}_loss": (totals["nats"], weight), f"{name}_accuracy": (totals["right"], weight)}
    if z_loss:
        measures[f"{name}_z"] = (totals["z"], weight)
    return Loss({name: (totals["term"], weight)}, measures)


def _sums(
    logits_BMV: Array, targets_BM: Array, weights_BM: Array, z_loss: float, label_smoothing: float
) -> dict[str, Array]:
    total = lambda values_BM: jnp.where(weights_BM > 0, values_BM * weights_BM, 0.0).sum()
    log_z_BM = _log_z(logits_BMV)
    picked_BM = _picked(logits_BMV, targets_BM)
    nats_BM = log_z_BM - picked_BM
    right_BM = _is_first_largest(logits_BMV, targets_BM, picked_BM)
    found = {"nats": total(nats_BM), "right": jnp.where(right_BM, weights_BM, 0.0).sum()}
    term_BM = nats_BM
    if label_smoothing:
        real_BMV = logits_BMV > PADDING_LOGIT
        mean_BM = jnp.where(real_BMV, logits_BMV, 0.0).sum(axis=-1) / real_BMV.sum(axis=-1)
        term_BM = (1.0 - label_smoothing) * nats_BM + label_smoothing * (log_z_BM - mean_BM)
    if z_loss:
        z_BM = z_loss * log_z_BM**2
        found["z"] = total(z_BM)
        term_BM = term_BM + z_BM
    return {**found, "term": total(term_BM)}


@jax.custom_vjp
def _log_z(logits_BMV: Array) -> Array:
    """log of the softmax's denominator, whose gradient is made of the logits: nothing else as large is kept."""
    return _log_z_forward(logits_BMV)[0]


def _log_z_forward(logits_BMV: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    largest_BM1 = logits_BMV.max(axis=-1, keepdims=True)
    sum_BM1 = jnp.exp(logits_BMV - largest_BM1).sum(axis=-1, keepdims=True)
    return (largest_BM1 + jnp.log(sum_BM1))[..., 0], (logits_BMV, largest_BM1, sum_BM1)


def _log_z_backward(kept: tuple[Array, Array, Array], g_BM: Array) -> tuple[Array]:
    logits_BMV, largest_BM1, sum_BM1 = kept
    return (g_BM[..., None] / sum_BM1 * jnp.exp(logits_BMV - largest_BM1),)


_log_z.defvjp(_log_z_forward, _log_z_backward)


def _picked(logits_BMV: Array, targets_BM: Array) -> Array:
    """The target's, as a sum: a gather's gradient would be scattered into an array of zeros as large as the logits, and
    between devices that share a vocabulary all of it would travel."""
    is_target_BMV = jnp.arange(logits_BMV.shape[-1]) == targets_BM[..., None]
    return jnp.where(is_target_BMV, logits_BMV, 0.0).sum(axis=-1)


def _is_first_largest(logits_BMV: Array, targets_BM: Array, picked_BM: Array) -> Array:
    """Whether argmax is the target. A sum of float32, as those of `_log_z` and `_picked`: XLA merges the passes."""
    largest_BM1 = logits_BMV.max(axis=-1, keepdims=True)
    before_BMV = jnp.arange(logits_BMV.shape[-1]) < targets_BM[..., None]
    earlier_BM = jnp.where(before_BMV & (logits_BMV == largest_BM1), 1.0, 0.0).sum(axis=-1)
    return (picked_BM == largest_BM1[..., 0]) & (earlier_BM == 0)


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


def divergence(one_BMK: Array, other_BMK: Array, weights_BM: Array) -> Pair:
    """Sum of (KL(p, q) + KL(q, p)) / 2 in nats over slots, of two sets of logits."""
    log_p, log_q = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (one_BMK, other_BMK))
    nats_BM = 0.5 * ((jnp.exp(log_p) - jnp.exp(log_q)) * (log_p - log_q)).sum(-1)
    return jnp.where(weights_BM > 0, nats_BM * weights_BM, 0.0).sum(), weights_BM.sum()


def between(one: Logits, other: Logits, nats: Callable[[Array, Array], Array], *, chunk: int = 0) -> Pair:
    """Sum of `nats(logits, others)` over the slots; `other` has no gradient. `chunk`: as in `of_tokens`."""

    def sums(models: Any, *slots: Array) -> dict[str, Array]:
        def of_chunk(x_BMD: Array, y_BMD: Array, weights_BM: Array, held: Any) -> dict[str, Array]:
            nats_BM = nats(one.head(models[0], x_BMD), jax.lax.stop_gradient(other.head(held, y_BMD)))
            return {"term": jnp.where(weights_BM > 0, nats_BM * weights_BM, 0.0).sum()}

        return chunked.summed(of_chunk, chunk, *slots, held=(models[1],))

    slots, models = (one.x_BMD, other.x_BMD, one.weights_BM), (one.model, other.model)
    many = 0 < chunk < one.x_BMD.shape[1]
    totals = rows.summed(sums, models, *slots) if many else sums(models, *slots)
    return totals["term"], count(one.weights_BM)


def log_p(logits: Logits, ids_BM: Array, *, chunk: int = 0) -> Array:
    """[B, M], float32: log p of every target, nats; of unused slots whatever it is. `chunk`: as in `of_tokens`."""

    def of_chunk(x_BMD: Array, ids_BM: Array) -> Array:
        logits_BMV = logits.head(logits.model, x_BMD).astype(jnp.float32)
        return _picked(logits_BMV, ids_BM) - _log_z(logits_BMV)

    slots = ids_BM.shape[1]
    if not 0 < chunk < slots:
        return of_chunk(logits.x_BMD, ids_BM)
    parts = [slice(at, at + chunk) for at in range(0, slots, chunk)]
    of_chunk = jax.checkpoint(of_chunk)
    return jnp.concatenate([of_chunk(logits.x_BMD[:, one], ids_BM[:, one]) for one in parts], axis=1)


def count(weights: Array) -> Array:
    """The weight of all slots together; what cross_entropy returns as its weight."""
    return weights.sum()
