"""Masked LM with a question about every pair of segments: what BERT's next sentence and ALBERT's order share.

In: rows packed with pairs. Out: masked rows with a label for every pair; two losses from one pass of the encoder.
Each pair is judged at its own [CLS], so packing several pairs into a row changes nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Array, Batch, Loss, Row, Shown, Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.rows import pairs
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Classify, Head, Pooler
from jaxlm.objectives import scores
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Logits, Predictions
from jaxlm.objectives.targets import ItemTargets, TokenTargets


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTargets:
    """Masked tokens, and a question about every pair."""

    tokens: TokenTargets
    items: ItemTargets

    def show(self, b: int) -> Shown:
        """Row `b`, of numpy arrays."""
        return dataclasses.replace(self.tokens.show(b), notes=self.items.show(b).notes)


@dataclasses.dataclass(kw_only=True)
class SentencePairs(Objective):
    """Published for both: short_share 0.1, duplicates 10; negatives are half of the pairs."""

    token_term = "mlm"
    question: ClassVar[str]  # name of the term of the pairs
    negatives: ClassVar[Literal["random", "swapped"]]  # what pairs of label 1 are

    masked_lm: MaskedLM  # what is predicted of the tokens of a pair
    short_share: float  # of documents cut into pairs of a random shorter length
    duplicates: int  # times each training document is cut into pairs, with other draws
    pairs_per_row: int  # at most: the pair slots C of a packed row

    @property
    def negative_share(self) -> float:
        """Of pairs with label 1."""
        raise NotImplementedError

    @property
    def needs_sentences(self) -> bool:
        """Segments end where sentences do."""
        return True

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Pairs of segments, as [CLS] a [SEP] b [SEP]."""
        return pairs.make_pairs(
            shards,
            vocabulary,
            row_length=asked.length,
            short_share=self.short_share,
            negatives=self.negatives,
            negative_share=self.negative_share,
            duplicates=self.duplicates if asked.train else 1,
            seed=asked.seed,
            cache=asked.cache,
        )

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.pairs_per_row

    def validate(self, where: str) -> None:
        """Shares in [0, 1], counts of at least 1. `masked_lm` is checked by its own validate."""
        check_share(self, where, "short_share", "0.1")
        for name, published in (("duplicates", "10"), ("pairs_per_row", "1, one pair a row; packed: 8")):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{where}.{name}={getattr(self, name)}: allowed is 1 or more (published: {published})."
                )

    def check(self, vocabulary: Vocabulary) -> None:
        """What masked LM needs, and the separators of pairs."""
        self.masked_lm.check(vocabulary)
        vocabulary.require(f"the pairs of {type(self).__name__}", "cls", "sep")

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Tokens are predicted, and a question about every pair is answered on the pooled [CLS]."""
        return {**self.masked_lm.heads(config), "pooler": Pooler(), self.question: Classify(classes=2)}

    def fit(self, shards: Any, vocabulary: Vocabulary, cache: Cache | None) -> "SentencePairs":
        """With what masked LM learns."""
        return dataclasses.replace(self, masked_lm=self.masked_lm.fit(shards, vocabulary, cache))

    def slots(self, row_length: int, train: bool) -> int:
        """M, the slots for masked tokens of one row."""
        return self.masked_lm.slots(row_length, train)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """One row of a batch."""
        masked = self.masked_lm.prepare(row, vocabulary, rng, train=train)
        labels = row.of_items(pairs.NEGATIVE)
        items = ItemTargets(
            first_BC=row.first_C,
            labels_BC=np.maximum(labels, 0),
            weights_BC=(labels >= 0).astype(np.float32),
        )
        return dataclasses.replace(masked, targets=PairTargets(tokens=masked.targets, items=items))

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Number of masked tokens and number of pairs in the batch."""
        return {**self.masked_lm.weights(batch), self.question: scores.count(batch.targets.items.weights_BC)}

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`mlm` at the masked tokens, and the question at the first token of every pair; one pass of the encoder."""
        tokens, items = batch.targets.tokens, batch.targets.items
        at_BM, masked = jnp.concatenate([tokens.places_BM, items.first_BC], axis=1), tokens.ids_BM.shape[1]
        encoded = model.encode(batch, key, at_BM=at_BM)
        x_BMD, x_BCD = encoded.x_BTD[:, :masked], encoded.x_BTD[:, masked:]
        answer = lambda model, x_BCD: model.classify_pair(x_BCD, self.question)
        asked = {self.question: Logits(x_BCD, model, answer, items.weights_BC)}
        return Predictions.of(encoded, mlm=scores.at_targets(model, x_BMD, tokens), **asked)

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Terms `mlm` and the question's; measures `{mlm,nsp,sop}_{loss,accuracy}`."""
        masked, items = self.masked_lm.score(predictions, batch), batch.targets.items
        logits_BC2 = predictions[self.question]()
        nats = scores.cross_entropy(logits_BC2, items.labels_BC, items.weights_BC)
        right = scores.accuracy(logits_BC2, items.labels_BC, items.weights_BC)
        return Loss(
            {**masked.terms, self.question: nats},
            {**masked.measures, f"{self.question}_loss": nats, f"{self.question}_accuracy": right},
        )


def check_share(config: Any, where: str, name: str, published: str) -> None:
    """UserError unless the field is within [0, 1]."""
    if not 0.0 <= getattr(config, name) <= 1.0:
        raise UserError(
            f"{where}.{name}={getattr(config, name)}: allowed is 0 to 1 (published: {published})."
        )
