"""Features of items mixed with those of others. In: an objective of classes. Out: its loss on the mixtures.

objective = Mixup(of=objective, alpha=0.2)
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Loss
from jaxlm.errors import UserError
from jaxlm.objectives.predictions import Logits
from jaxlm.objectives.wrapped import Wrapped, check_at_least, check_one_pass

_MIX = 13  # fold of a pass's key


@dataclasses.dataclass(kw_only=True)
class Mixup(Wrapped):
    """Zhang et al., 1710.09412, at the last hidden layer (Verma et al., 1806.05236): x = s x_i + (1 - s) x_j, and
    the loss is s of that against i's class and (1 - s) of that against j's.

    One share for a batch, as published, and j a random order of the batch's items (of tagging: tokens), whichever row
    they stand in. Published: alpha 0.2 to 1. Costs nothing beside the head.
    """

    one_pass = False

    alpha: float  # the share is drawn from Beta(alpha, alpha); published: 0.2 to 1

    def validate(self, where: str) -> None:
        """UserError for no distribution, or what cannot be asked twice."""
        check_at_least(self, where, 1e-3, "alpha")
        check_one_pass(self, where)

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Terms and measures as inside: of mixtures while training."""
        if key is None:
            return super().loss(model, batch, key)
        said = self.of.predict(model, batch, key)
        of_share, of_order = jax.random.split(jax.random.fold_in(key, _MIX))
        share = jax.random.beta(of_share, self.alpha, self.alpha)
        if len(said.outputs) != 1 or not all(isinstance(one, Logits) for one in said.outputs.values()):
            raise UserError(f"Mixup around {type(self.of).__name__}: it needs one output, of classes.")
        ((name, logits),) = said.outputs.items()
        if logits.x_BMD.shape[:2] != logits.weights_BM.shape:
            raise UserError(f"Mixup around {type(self.of).__name__}: an item of it has several places.")
        others = partners(of_order, logits.weights_BM)
        x_BMD = mixed(logits.x_BMD, others, share)
        mixture = dataclasses.replace(said, outputs={name: dataclasses.replace(logits, x_BMD=x_BMD)})
        theirs = dataclasses.replace(batch, targets=taken(batch.targets, others))
        pairs = self.of.score(mixture, batch), self.of.score(mixture, theirs)
        both = jax.tree.map(lambda own, other: share * own + (1.0 - share) * other, *pairs)
        return Loss({**both.terms, **said.terms}, {**both.measures, **said.terms})


def partners(key: Array, weights_BM: Array) -> Array:
    """int32 [B, M]: for every slot another one, numbered over the batch; real ones for real ones, each once."""
    used = weights_BM.reshape(-1) > 0
    in_order = jnp.argsort(~used, stable=True)
    drawn = jax.random.uniform(key, used.shape)
    shuffled = jnp.argsort(jnp.where(used, drawn, 2.0), stable=True)
    return jnp.zeros_like(in_order).at[in_order].set(shuffled).reshape(weights_BM.shape)


def mixed(x_BMD: Array, others_BM: Array, share: Array) -> Array:
    """share * x + (1 - share) * x of the partner, in the dtype of x."""
    x = x_BMD.astype(jnp.float32)
    return (share * x + (1.0 - share) * taken(x, others_BM)).astype(x_BMD.dtype)


def taken(tree: Any, others_BM: Array) -> Any:
    """The slots of the partners, of every array that begins with [B, M]."""

    def of(array: Array) -> Array:
        if array.shape[:2] != others_BM.shape:
            return array
        flat = array.reshape(-1, *array.shape[2:])
        return flat[others_BM.reshape(-1)].reshape(array.shape)

    return jax.tree.map(of, tree)
