"""A model that is short enough to write twice: what its items see of each other is their own mean. In torch, too."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.models.encoded import Encoded
from jaxlm.models.masks import at_places
from jaxlm.objectives import disturbed
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.targets import ItemTargets

V, D, K = 30, 6, 3
OBJECTIVE = Classification(
    column="label", labels=("a", "b", "c"), texts=1, pooling="own", max_tokens=20, items_per_row=4
)
ITEMS = ([3, 9, 4], [7, 1, 2, 8, 11], [5, 6], [12, 13, 14, 2])
LABELS = (0, 1, 2, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Toy:
    """embed: a table; encode: tanh((x + mean of the item) w); classify: x u."""

    table: jax.Array
    w: jax.Array
    u: jax.Array

    config = types.SimpleNamespace(kind="encoder")

    def embed(self, batch, key=None):
        return self.table[batch.tokens_BT]

    def encode(self, batch, key=None, x_BTD=None, at_BM=None):
        x_BTD = self.embed(batch, key) if x_BTD is None else x_BTD
        real = (batch.segments_BT > 0)[..., None]
        over = jax.vmap(lambda x, s: jax.ops.segment_sum(x, s, num_segments=20)[s])
        total, number = (
            over(x_BTD * real, batch.segments_BT),
            disturbed.sums(real[..., 0] * 1.0, batch.segments_BT),
        )
        h = jnp.tanh((x_BTD + total / jnp.maximum(number, 1)[..., None]) @ self.w)
        if key is not None:  # of a pass: so that two differ
            h = h * jax.random.bernoulli(key, 0.8, (D,))
        return Encoded(x_BTD=h if at_BM is None else at_places(h, at_BM))

    def classify(self, x_BCD, name, key=None):
        return x_BCD @ self.u


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in ((V, D), (D, D), (D, K))]


def batch(groups, length=16):
    """Rows with these items."""
    tokens, segments, positions = np.zeros((3, len(groups), length), np.int32)
    first, labels = np.zeros((2, len(groups), 4), np.int32)
    real = np.zeros((len(groups), 4), np.float32)
    for b, group in enumerate(groups):
        at = 0
        for c, i in enumerate(group):
            span = slice(at, at + len(ITEMS[i]))
            tokens[b, span], segments[b, span], positions[b, span] = ITEMS[i], c + 1, np.arange(len(ITEMS[i]))
            first[b, c], labels[b, c], real[b, c] = at, LABELS[i], 1.0
            at = span.stop
    targets = ItemTargets(first_BC=first, labels_BC=labels, weights_BC=real)
    return Batch(tokens_BT=tokens, segments_BT=segments, positions_BT=positions, targets=targets)


PACKED, ALONE = [[0, 1, 2], [3]], [[0], [1], [2], [3]]


def loss_and_gradient(objective, groups, key):
    """Of the sum of terms, each over its weight, as a step has it."""
    rows = jax.tree.map(jnp.asarray, batch(groups))

    def total(arrays):
        out = objective.loss(Toy(*arrays), rows, key)
        whole = objective.weights(rows)
        assert out.terms.keys() <= whole.keys()
        return sum(s / whole[name] for name, (s, _) in out.terms.items())

    return jax.jit(jax.value_and_grad(total))(weights())
