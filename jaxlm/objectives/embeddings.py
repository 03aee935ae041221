"""Embeddings of texts from encoded rows, and how good they are. In: x_BTD and its batch. Out: e_BCD, cosines, measures.

An item's embedding comes from its own tokens only, wherever in a row it stands. I: all items of the batch, B * C of
them, over the whole mesh; J: what each is compared with. Slots without an item contribute exactly 0.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Pair
from jaxlm.models.encoded import Encoded
from jaxlm.objectives import scores

# cls: the features of [CLS]. mean: of all tokens of the item, special ones included (sentence-transformers).
# cls_mlp: [CLS] through the model's pooler, which has the shape of SimCSE's MLP layer (dense, tanh).
Pooling = Literal["cls", "mean", "cls_mlp"]
_EXACT = jax.lax.Precision.HIGHEST  # bfloat16 products would move a cosine over 0.05 by a tenth of a nat
_FAR = -1e9  # the logit of what is no candidate


def of_items(
    model: Any, batch: Batch, key: Array | None, first_BC: Array, pooling: Pooling
) -> tuple[Encoded, Array]:
    """A pass, and e_BCD, float32; items are the segments 1, 2, ..., whose first tokens stand at `first_BC`."""
    encoded = model.encode(batch, key, at_BM=None if pooling == "mean" else first_BC)
    if pooling == "mean":
        return encoded, mean(encoded.x_BTD, batch.segments_BT, first_BC.shape[1])
    x_BCD = encoded.x_BTD
    return encoded, (model.pool(x_BCD) if pooling == "cls_mlp" else x_BCD).astype(jnp.float32)


def mean(x_BTD: Array, segments_BT: Array, items: int) -> Array:
    """e_BCD, float32: the mean of the features of every item, the segments 1, 2, ..., `items`."""
    number_C = jnp.arange(1, items + 1)
    inside_BCT = (segments_BT[:, None, :] == number_C[None, :, None]).astype(jnp.float32)
    sums_BCD = jnp.einsum("BCT,BTD->BCD", inside_BCT, x_BTD.astype(jnp.float32), precision=_EXACT)
    return sums_BCD / jnp.maximum(inside_BCT.sum(axis=-1), 1.0)[..., None]


def unit(e: Array) -> Array:
    """Vectors of length 1; a vector of zeros stays one, with gradient 0."""
    return e * jax.lax.rsqrt(jnp.maximum((e * e).sum(axis=-1, keepdims=True), 1e-24))


def in_batch(
    anchors_ID: Array, candidates_JD: Array, real_J: Array, weights_I: Array, temperature: float
) -> tuple[Pair, Pair]:
    """((nats, weight), (hits, weight)) of finding candidate i for anchor i among all; unit vectors, J >= I.

    InfoNCE with cosines over `temperature` as logits (Gao et al., 2104.08821, equations 1 and 5).
    """
    cosines_IJ = jnp.einsum("ID,JD->IJ", anchors_ID, candidates_JD, precision=_EXACT)
    logits_IJ = jnp.where(real_J, cosines_IJ / temperature, _FAR)
    own_I = jnp.arange(len(anchors_ID))
    return scores.cross_entropy(logits_IJ, own_I, weights_I), scores.accuracy(logits_IJ, own_I, weights_I)


def alignment(anchors_ID: Array, positives_ID: Array, weights_I: Array) -> Pair:
    """Mean squared distance of the two sides of a pair; lower is better (Wang & Isola, 2005.10242)."""
    squares_I = ((anchors_ID - positives_ID) ** 2).sum(axis=-1)
    return jnp.where(weights_I > 0, squares_I * weights_I, 0.0).sum(), weights_I.sum()


def uniformity(e_ID: Array, real_I: Array) -> Pair:
    """Log of the mean of exp(-2 d^2) over all pairs of items; lower is better (Wang & Isola, 2005.10242).

    A logarithm of a mean does not add up over batches: every batch of two items or more has weight 1.
    """
    cosines_IJ = jnp.matmul(e_ID, e_ID.T, precision=_EXACT)
    others_IJ = real_I[:, None] & real_I[None, :] & ~jnp.eye(len(e_ID), dtype=bool)
    number = others_IJ.sum()
    near = jnp.where(others_IJ, jnp.exp(4.0 * cosines_IJ - 4.0), 0.0).sum()  # d^2 = 2 - 2 cos
    enough = (number > 0).astype(jnp.float32)
    return jnp.where(number > 0, jnp.log(jnp.maximum(near, 1e-30) / jnp.maximum(number, 1)), 0.0), enough
