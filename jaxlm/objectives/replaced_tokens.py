"""Replaced-token detection: a generator fills masks, a discriminator finds its work (Clark et al., 2003.10555).

In: rows as of masked LM. Out: two losses of two models in one step: the generator's masked LM, and for every real token
of the row with the generator's samples filled in, whether it differs from the original. No gradient passes through the
sampling.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Kind, Loss, Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.errors import UserError
from jaxlm.models.heads import Detect, Head
from jaxlm.objectives import scores
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Logits, Predictions
from jaxlm.objectives.targets import TokenTargets


@dataclasses.dataclass(kw_only=True)
class ReplacedTokens(Objective):
    """ELECTRA as published: discriminator_weight 50, temperature 1; masked_lm with rate 0.15 (large: 0.25), mask_share
    0.85, random_share 0. Evaluation samples with a key that never changes."""

    token_term: ClassVar[str] = "mlm"

    masked_lm: MaskedLM  # of the generator
    discriminator_weight: float  # of the mean over tokens, next to the generator's mean over masks
    temperature: float  # of the samples

    def validate(self, where: str) -> None:
        """Positive numbers. `masked_lm` is checked by its own validate."""
        for name, published in (("discriminator_weight", "50.0"), ("temperature", "1.0")):
            if getattr(self, name) <= 0:
                raise UserError(
                    f"{where}.{name}={getattr(self, name)}: must be above 0 (published: {published})."
                )
        if self.masked_lm.chunk:
            raise UserError(
                f"{where}.masked_lm.chunk={self.masked_lm.chunk}: samples are drawn from the logits of all masks at "
                f"once, so nothing would be saved. Fix: --{where}.masked_lm.chunk=0."
            )

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs what masked LM needs."""
        self.masked_lm.check(vocabulary)

    @property
    def trains(self) -> Kind:
        """A pair."""
        return "pair"

    def heads(self, config: Any) -> Mapping[str, Head]:
        """The generator's and the discriminator's."""
        return {**self.masked_lm.heads(config), "replaced": Detect()}

    def fit(self, shards: Any, vocabulary: Vocabulary, cache: Cache | None) -> "ReplacedTokens":
        """With what masked LM learns."""
        return dataclasses.replace(self, masked_lm=self.masked_lm.fit(shards, vocabulary, cache))

    def slots(self, row_length: int, train: bool) -> int:
        """M, the slots for masked tokens of one row."""
        return self.masked_lm.slots(row_length, train)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Masked LM's row: the rest happens on the device."""
        return self.masked_lm.prepare(row, vocabulary, rng, train=train)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of masked tokens, and number of real tokens in the batch."""
        return {**self.masked_lm.weights(batch), "rtd": _real(batch).sum()}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`mlm` of the generator, `rtd` of the discriminator at every token, and where those are `replaced`."""
        keys = (None, jax.random.key(0), None) if key is None else jax.random.split(key, 3)
        asked: TokenTargets = batch.targets
        generated = model.generator.encode(batch, keys[0], at_BM=asked.places_BM)
        mlm = scores.at_targets(model, generated.x_BTD, asked)
        fakes_BM = self.sample(mlm(), keys[1])
        found_BT, replaced_BT = filled(batch, asked.ids_BM), filled(batch, fakes_BM)
        row = dataclasses.replace(batch, tokens_BT=replaced_BT)
        judged = model.discriminator.encode(row, keys[2])
        rtd = Logits(judged.x_BTD, model, lambda model, x_BTD: model.detect(x_BTD), _real(batch))
        outputs = {"mlm": mlm, "rtd": rtd, "replaced": replaced_BT != found_BT}
        terms = {f"generator_{name}": pair for name, pair in generated.terms.items()}
        return Predictions(outputs, {**terms, **judged.terms})

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Terms `mlm` and `rtd` (times its weight); measures `mlm_{loss,accuracy}`, `rtd_{loss,accuracy,...}`."""
        masked = self.masked_lm.score(predictions, batch)
        detected = detection(predictions["rtd"](), predictions["replaced"], _real(batch))
        total, weight = detected["rtd_loss"]
        terms = {**masked.terms, "rtd": (self.discriminator_weight * total, weight)}
        return Loss(terms, {**masked.measures, **detected})

    def sample(self, logits_BMV: Array, key: Array) -> Array:
        """Ids drawn from the generator's softmax; padding of the vocabulary is never drawn."""
        return jax.random.categorical(key, jax.lax.stop_gradient(logits_BMV) / self.temperature)


def filled(batch: Batch, ids_BM: Array) -> Array:
    """tokens_BT with these ids where tokens are predicted."""
    length, asked = batch.tokens_BT.shape[1], batch.targets
    # Slots without a target point behind the row, where writing is dropped.
    places_BM = jnp.where(asked.weights_BM > 0, asked.places_BM, length)
    write = lambda tokens_T, places_M, ids_M: tokens_T.at[places_M].set(ids_M, mode="drop")
    return jax.vmap(write)(jnp.asarray(batch.tokens_BT), places_BM, ids_BM.astype(jnp.int32))


def detection(logits_BT: Array, replaced_BT: Array, real_BT: Array) -> dict[str, tuple[Array, Array]]:
    """Binary cross-entropy (nats), accuracy, precision and recall of "replaced" over real tokens, as (sum, weight)."""
    logits_BT = logits_BT.astype(jnp.float32)
    nats_BT = jax.nn.softplus(logits_BT) - jnp.where(replaced_BT, logits_BT, 0.0)
    total = lambda values_BT: jnp.where(real_BT > 0, values_BT, 0.0).sum()
    said_BT, weight = logits_BT > 0, real_BT.sum()
    hits = total(said_BT & replaced_BT)
    return {
        "rtd_loss": (total(nats_BT), weight),
        "rtd_accuracy": (total(said_BT == replaced_BT), weight),
        "rtd_precision": (hits, total(said_BT)),
        "rtd_recall": (hits, total(replaced_BT)),
    }


def _real(batch: Batch) -> Array:
    return (batch.segments_BT > 0).astype(jnp.float32)
