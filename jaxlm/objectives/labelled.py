"""What objectives over texts with a column share. In: a column of the corpus. Out: whole texts, cut, that carry it.

Labels are numbered as the training split has them, sorted; a run is told them before its heads are made.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from jaxlm.batch import NONE, Array, Batch, Kind, Loss, Row, Vocabulary
from jaxlm.data.corpus.columns import Label
from jaxlm.data.rows import texts
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError, did_you_mean
from jaxlm.models.heads import Classify, Head, of_texts
from jaxlm.objectives import reading, scores
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Logits, Predictions
from jaxlm.objectives.targets import ItemTargets

OF_MEAN = "classes_of_mean"  # the head on the mean of an item: no model of transformers has a place for it


@dataclasses.dataclass(kw_only=True)
class Carrying(Objective):
    """Texts of a corpus with a column that says what is right."""

    learns: ClassVar[type] = Label  # the kind of column

    column: str  # of the corpus, in data.columns
    max_tokens: (
        int  # of an item, without special tokens; what is cut off is at the end (of two texts: of the longer)
    )
    items_per_row: int  # at most; 1 is one a row

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that its items carry into rows."""
        return (self.column,)

    def validate(self, where: str) -> None:
        """UserError for numbers that make no rows."""
        for name in ("max_tokens", "items_per_row"):
            check_number(self, where, name, 2**16 - 1)

    def check_columns(self, columns: Sequence[Any]) -> None:
        """UserError for a column of another kind."""
        found = next((one for one in columns if one.field == self.column), None)
        if type(found) is not self.learns and (
            found or not self.missing_labels
        ):  # of labels the inventory says it
            kind, names = self.learns.__name__, [one.field for one in columns]
            more = {"Labels": ", separator='|'"}.get(kind, "")
            is_one = (
                f"is one of {type(found).__name__}"
                if found
                else f"is none of {', '.join(names) or 'no columns'}"
            )
            raise UserError(
                f'config.objective.column="{self.column}" {is_one} in data.columns, and {type(self).__name__} learns '
                f'{kind}.{did_you_mean(self.column, names)} Fix: "--config.data.columns=({kind}(field='
                f'{self.column!r}{more}),)".'
            )

    def check(self, vocabulary: Vocabulary) -> None:
        """Texts end with [SEP] or eos."""
        vocabulary.require_end(type(self).__name__)

    def max_items(self, length: int) -> int:
        """As configured."""
        return self.items_per_row

    def whole(
        self, shards: Shards, vocabulary: Vocabulary, asked: Asked, *, groups: int = 1, **how: Any
    ) -> Items:
        """The items, each with the column; `how`: as `texts.make_texts`. `groups`: as many times `max_tokens` an item.

        UserError for other labels than those of the shards, and for rows that are too short.
        """
        apart = how["texts"] if not how.get("joined") else -(-how["texts"] // 2)
        special = vocabulary.overhead(apart, how["texts"])
        if groups * self.max_tokens + special > asked.length:
            raise UserError(
                f"{type(self).__name__}.max_tokens={self.max_tokens}{f' for each of {groups}' * (groups > 1)} and "
                f"{special} special tokens do not fit a row of {asked.length}. Fix: --config.objective.max_tokens="
                f"{max((asked.length - special) // groups, 1)}, or longer rows."
            )
        return texts.make_texts(
            shards, vocabulary, max_tokens=self.max_tokens, cache=asked.cache, columns=self.carried, **how
        )


@dataclasses.dataclass(kw_only=True)
class Labelled(Carrying):
    """The column is one of labels."""

    labels: tuple[str, ...]  # sorted; (): those of the training split, which the run then keeps

    @property
    def missing_labels(self) -> str:
        """The column, until its names are known."""
        return "" if self.labels else self.column

    def validate(self, where: str) -> None:
        """UserError, too, for a label twice, or too few."""
        super().validate(where)
        if self.labels and (
            len(set(self.labels)) != len(self.labels) or len(self.labels) < self.fewest_labels
        ):
            raise UserError(
                f"{where}.labels={self.labels}: {'two or more ' * (self.fewest_labels > 1)}different names, or () for "
                "those of the training data."
            )

    def whole(
        self, shards: Shards, vocabulary: Vocabulary, asked: Asked, *, groups: int = 1, **how: Any
    ) -> Items:
        """As above."""
        if (found := shards.labels(self.column)) != self.labels:
            raise UserError(
                f'{type(self).__name__}.labels={self.labels}, but column "{self.column}" of the training data has '
                f"{found}. Fix: --config.objective.labels=() with a new --workdir."
            )
        return super().whole(shards, vocabulary, asked, groups=groups, **how)

    def weights(self, batch: Batch) -> dict[str, Array]:
        """How many are asked: items, or tokens."""
        return {name: scores.count(weights) for name, (_, weights) in self.right_classes(batch).items()}

    def score(self, predictions: Predictions, batch: Batch) -> Loss:
        """Terms by the names of `right_classes`: cross-entropies; measures `..._loss` (nats) and `..._accuracy`."""
        terms, measures = {}, {}
        for name, (right, weights) in self.right_classes(batch).items():
            logits = predictions[name]()
            terms[name] = scores.cross_entropy(logits, right, weights)
            hits = scores.accuracy(logits, right, weights)
            measures |= {f"{name}_loss": terms[name], f"{name}_accuracy": hits}
        return Loss(terms, measures)

    def answer(self, shares_K: Sequence[float]) -> dict[str, Any]:
        """{predicted label, its probability, and one for each label} of one item."""
        best = int(np.argmax(shares_K))
        each = {name: float(share) for name, share in zip(self.labels, shares_K, strict=True)}
        return {"predicted": self.labels[best], "probability": each[self.labels[best]], "probabilities": each}


@dataclasses.dataclass(kw_only=True)
class Judged(Carrying):
    """Every item, of one text or of two in one segment, gets `outputs` numbers of a head that reads one vector."""

    texts: int  # of an item: 1, or 2: the fields of data.text_fields in one segment
    # own: where the family's model of transformers reads, the [CLS] of an encoder, the last token of a decoder.
    # mean: all tokens of the item, straight into the last layer
    pooling: reading.Pooling

    @property
    def outputs(self) -> int:
        """Of every item."""
        raise NotImplementedError

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Every kind that reads texts."""
        return ("encoder", "decoder", "encoder_decoder")

    @property
    def needs_sentences(self) -> bool:
        """Where one field of a record ends."""
        return self.texts > 1

    def validate(self, where: str) -> None:
        """UserError, too, for more than two texts."""
        check_number(self, where, "texts", 2)
        super().validate(where)

    def heads(self, config: Any) -> Mapping[str, Head]:
        """As transformers' ...ForSequenceClassification has them in every family; of the mean one layer."""
        if self.pooling == "mean":
            return {OF_MEAN: Classify(classes=self.outputs)}
        return of_texts(config, classes=self.outputs)

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """Whole texts, cut to `max_tokens`."""
        unit = "fields" if self.texts > 1 else "documents"
        return self.whole(shards, vocabulary, asked, unit=unit, texts=self.texts, joined=True)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """The row as it is; nothing is drawn."""
        return dataclasses.replace(reading.of_row(row), targets=self.targets(row, vocabulary))

    def targets(self, row: Row, vocabulary: Vocabulary) -> Any:
        """What is right, with `first_BC`, `weights_BC` and `start_B` of `ItemTargets`."""
        raise NotImplementedError

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`classes`: the numbers of every item."""
        return judge(model, batch, key, self.pooling)


def judge(model: Any, batch: Batch, key: Array | None, pooling: reading.Pooling) -> Predictions:
    """`classes`: what the head of `Judged` says of every item of a batch with `ItemTargets`."""
    asked = batch.targets
    encoded, x_BCD = reading.items(model, batch, key, asked.first_BC, asked.start_B, pooling)
    own = lambda model, x_BCD: model.classify(x_BCD, "classes", key)
    of_mean = lambda model, x_BCD: model.heads[OF_MEAN](x_BCD, key)
    head = of_mean if pooling == "mean" else own
    return Predictions.of(encoded, classes=Logits(x_BCD, model, head, asked.weights_BC))


def one_label(row: Row, column: str, vocabulary: Vocabulary) -> ItemTargets:
    """A label for every item; one that training data lack weighs nothing."""
    labels = row.of_items(column)
    return ItemTargets(
        first_BC=row.first_C,
        labels_BC=np.maximum(labels, 0).astype(np.int32),
        weights_BC=(labels != NONE).astype(np.float32),
        start_B=reading.start(vocabulary),
    )


def check_number(config: Any, where: str, name: str, most: int) -> None:
    """UserError unless the field is 1 to `most`."""
    if not 1 <= getattr(config, name) <= most:
        raise UserError(f"{where}.{name}={getattr(config, name)}: allowed is 1 to {most}.")
