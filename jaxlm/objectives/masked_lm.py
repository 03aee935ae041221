"""Masked language modelling: hide some tokens, predict them (BERT: Devlin et al., 1810.04805, section 3.1).

In: packed rows. Out: rows with masks and their targets; the cross-entropy of the targets, computed at their positions
only. Evaluation always hides `evaluation_rate`, so that models trained at different rates can be compared.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.batch import Array, Batch, Loss, Row, Vocabulary
from jaxlm.cached import Cache
from jaxlm.errors import UserError
from jaxlm.models import heads
from jaxlm.models.heads import Head
from jaxlm.objectives import generative, scores
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.phrases import Phrases
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.targets import TokenTargets
from jaxlm.objectives.units import Ngrams, Tokens, Words

__all__ = ["MaskedLM", "Ngrams", "Phrases", "Tokens", "Words"]


@dataclasses.dataclass(kw_only=True)
class MaskedLM(Objective):
    """BERT as published: rate 0.15, evaluation_rate 0.15, mask_share 0.8, random_share 0.1, unit Tokens().

    Of the chosen tokens `mask_share` become [MASK], `random_share` a random token, the rest stays as it is.
    """

    token_term = "mlm"

    rate: float  # share of a row's tokens, special ones included, that are predicted in training
    evaluation_rate: float  # the same in evaluation
    mask_share: float  # of the chosen tokens: become [MASK]
    random_share: float  # of the chosen tokens: become a random one; the rest stays as it is
    # What is chosen together: an object with `choose`, such as those of objectives.units, or one of your own
    unit: Any
    chunk: int = 0  # targets per row whose logits exist at the same time; 0: all. Changes memory, not results

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Tokens are predicted."""
        return {"tokens": heads.Tokens()}

    def validate(self, where: str) -> None:
        """Rates inside (0, 1); shares in [0, 1] with a sum of at most 1."""
        for name in ("rate", "evaluation_rate"):
            _check(
                0.0 < getattr(self, name) < 1.0, self, where, name, "above 0 and below 1", "published: 0.15"
            )
        for name in ("mask_share", "random_share"):
            _check(0.0 <= getattr(self, name) <= 1.0, self, where, name, "0 to 1", "published: 0.8 and 0.1")
        if self.mask_share + self.random_share > 1.0 + 1e-9:
            raise UserError(
                f"{where}: mask_share={self.mask_share} and random_share={self.random_share} add up to more than 1; "
                "they are shares of the predicted tokens, the rest is kept. Published: 0.8 and 0.1."
            )
        if not callable(getattr(self.unit, "choose", None)):
            raise UserError(
                f"{where}.unit={self.unit!r}: a unit has choose(row, vocabulary, number, rng), which gives positions. "
                "Allowed are Tokens(), Words(), Ngrams(...), Phrases(...), or a dataclass of your own with it."
            )
        generative.check_chunk(self, where)

    def check(self, vocabulary: Vocabulary) -> None:
        """Needs [MASK], and [CLS] and [SEP] around its documents."""
        vocabulary.require("masked language modelling", "mask", "cls", "sep")

    def fit(self, shards: Any, vocabulary: Vocabulary, cache: Cache | None) -> "MaskedLM":
        """With a unit that learns from the training split, such as Phrases, whose lexicon is mined from it."""
        if not hasattr(self.unit, "fit"):
            return self
        return dataclasses.replace(self, unit=self.unit.fit(shards, vocabulary, cache))

    def slots(self, row_length: int, train: bool) -> int:
        """M, the slots for targets of one row."""
        return math.floor(self._rate(train) * row_length) + 1

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """One row of a batch; the draw is over the whole packed row."""
        slots = self.slots(len(row.tokens_T), train)
        used = int((row.segments_T > 0).sum())
        number = min(slots, max(1, round(self._rate(train) * used))) if used else 0
        chosen = self.unit.choose(row, vocabulary, number, rng)
        if len(chosen) > number:
            raise UserError(
                f"config.objective.unit: {type(self.unit).__name__}.choose gave {len(chosen)} positions, asked for "
                f"{number} at most."
            )
        tokens = row.tokens_T.copy()
        tokens[chosen] = self._replace(tokens[chosen], vocabulary, rng)
        targets, places = np.zeros(slots, np.int32), np.zeros(slots, np.int32)
        weights = np.zeros(slots, np.float32)
        places[: len(chosen)] = chosen
        targets[: len(chosen)] = row.tokens_T[chosen]
        weights[: len(chosen)] = 1.0
        return Batch(
            tokens_BT=tokens,
            segments_BT=row.segments_T,
            positions_BT=row.positions_T,
            types_BT=row.texts_T,
            targets=TokenTargets(ids_BM=targets, weights_BM=weights, places_BM=places),
        )

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of targets in the batch."""
        return {"mlm": scores.count(batch.targets.tokens.weights_BM)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`mlm`: logits at the masked tokens."""
        encoded, mlm = scores.encode_tokens(model, batch, key, batch.targets.tokens)
        return Predictions.of(encoded, mlm=mlm)

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Term `mlm`; measures `mlm_loss` and `mlm_accuracy`."""
        return scores.of_tokens(predictions["mlm"], batch.targets.tokens.ids_BM, "mlm", chunk=self.chunk)

    def _rate(self, train: bool) -> float:
        return self.rate if train else self.evaluation_rate

    def _replace(self, tokens: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator) -> np.ndarray:
        draw = rng.random(len(tokens))
        masked = draw < self.mask_share
        random = ~masked & (draw < self.mask_share + self.random_share)
        return np.where(
            masked, vocabulary.mask, np.where(random, _any_token(len(tokens), vocabulary, rng), tokens)
        )


def _any_token(number: int, vocabulary: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Uniform over the ids that are not special."""
    ids = rng.integers(vocabulary.size, size=number, dtype=np.int32)
    while (
        special := vocabulary.special_V[ids]
    ).any():  # a handful of ids: drawing again beats listing the others
        ids[special] = rng.integers(vocabulary.size, size=int(special.sum()), dtype=np.int32)
    return ids


def _check(good: bool, config: Any, where: str, name: str, allowed: str, hint: str) -> None:
    if not good:
        raise UserError(f"{where}.{name}={getattr(config, name)}: allowed is {allowed} ({hint}).")
