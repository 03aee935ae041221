"""Tags that know their neighbours: a linear-chain conditional random field. In: as `Tagging`. Out: one loss.

The score of a sequence of tags is the sum of what the model says at every word, of a number for every two tags that
follow each other, and of one for the first and the last. Its loss is log Z - score: log Z over all sequences that can
be (I-x follows B-x or I-x), by the forward recursion in float32. Tokens that are not asked are passed over, and a text
packed behind another begins anew.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Loss, Pair
from jaxlm.models.heads import Head, Transitions
from jaxlm.objectives import scores
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.tagging import Tagging

NEVER = -1e9  # added to what cannot be: no infinity, whose gradient is none


@dataclasses.dataclass(kw_only=True)
class CrfTagging(Tagging):
    """As Lafferty et al. (2001), on the features that a tagger has; its transitions begin at 0."""

    def heads(self, config: Any) -> Mapping[str, Head]:
        """The transitions, too."""
        return {**super().heads(config), "transitions": Transitions(tags=len(self.tags))}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`tags` at every token, and `chain`."""
        found = super().predict(model, batch, key)
        return Predictions({**found.outputs, "chain": model.heads["transitions"]()}, found.terms)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of tokens that are asked."""
        return {"tags": scores.count(batch.targets.weights_BT)}

    def apart(self, one: Predictions, other: Predictions) -> dict[str, Pair]:
        """Nothing: a tag's probability is that of whole chains."""
        return {}

    def towards(
        self, said: Predictions, taught: Predictions, batch: Batch, apart: Divergence
    ) -> dict[str, Pair]:
        """Nothing, for the same reason."""
        return {}

    def right_classes(self, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """Nothing: a chain is one answer."""
        return {}

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `tags`; measures `tags_loss` (nats a word) and `tags_accuracy` (of words alone)."""
        logits_BTK, asked = predictions["tags"]().astype(jnp.float32), batch.targets
        nats = chain_loss(
            logits_BTK,
            asked.tags_BT,
            asked.weights_BT > 0,
            batch.segments_BT,
            predictions["chain"],
            allowed(len(self.tags), self.scheme),
        )
        right = scores.accuracy(logits_BTK, asked.tags_BT, asked.weights_BT)
        return Loss({"tags": nats}, {"tags_loss": nats, "tags_accuracy": right})


Chain = Mapping[str, Any]  # between [before, tag], first [tag], last [tag]


def allowed(tags: int, scheme: str) -> dict[str, np.ndarray]:
    """A chain of 0 where it can be, else `NEVER`; BIO tags are 0: O, 2 n + 1: B of label n, 2 n + 2: I of it."""
    k = np.arange(tags)
    begins = (k == 0) | (k % 2 == 1) if scheme == "bio" else np.ones(tags, bool)
    same = ((k[:, None] + 1) // 2 == (k[None, :] + 1) // 2) & (k[:, None] > 0)
    put = lambda can: np.where(can, 0.0, NEVER).astype(np.float32)
    return {"between": put(begins[None, :] | same), "first": put(begins), "last": np.zeros(tags, np.float32)}


def chain_loss(
    logits_BTK: Array, tags_BT: Array, asked_BT: Array, segments_BT: Array, chain: Chain, legal: Chain
) -> Pair:
    """(sum of log Z - score over all texts, number of tokens asked)."""
    learned, masked = chain, {name: chain[name] + legal[name] for name in chain}
    rows = jnp.zeros(len(tags_BT))
    start = (jnp.zeros_like(logits_BTK[:, 0]), tags_BT[:, 0], jnp.zeros_like(tags_BT[:, 0]), rows)

    def step(carry: Any, token: Any) -> tuple[Any, None]:
        alpha_BK, before_B, segment_B, nats_B = carry
        x_BK, tag_B, asked_B, own_B = token
        begins_B, open_B = own_B != segment_B, segment_B > 0
        closed_B = _closed(alpha_BK, before_B, masked, learned)
        through_BK = jax.nn.logsumexp(alpha_BK[:, :, None] + masked["between"], axis=1)
        entered_BK = jnp.where(begins_B[:, None], masked["first"], through_BK) + x_BK
        moved_B = jnp.where(begins_B, learned["first"][tag_B], learned["between"][before_B, tag_B])
        gold_B = moved_B + jnp.take_along_axis(x_BK, tag_B[:, None], axis=1)[:, 0]
        added_B = jnp.where(begins_B & open_B, closed_B, 0.0) - gold_B
        new = (entered_BK, tag_B, own_B, nats_B + added_B)
        keep = lambda a, b: jnp.where(asked_B.reshape(-1, *(1,) * (a.ndim - 1)), a, b)
        return jax.tree.map(keep, new, carry), None

    along = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (logits_BTK, tags_BT, asked_BT, segments_BT))
    (alpha_BK, before_B, segment_B, nats_B), _ = jax.lax.scan(step, start, along)
    nats_B = nats_B + jnp.where(segment_B > 0, _closed(alpha_BK, before_B, masked, learned), 0.0)
    return nats_B.sum(), asked_BT.sum().astype(jnp.float32)


def _closed(alpha_BK: Array, before_B: Array, masked: Chain, learned: Chain) -> Array:
    """What the end of a text adds: its log Z, less the score of its last tag."""
    return jax.nn.logsumexp(alpha_BK + masked["last"], axis=-1) - learned["last"][before_B]
