"""Which of a few texts goes with another: a question and its answers. In: rows of items with a `Label`. Out: one loss.

Every choice is a segment `[CLS] question [SEP] choice [SEP]` of its own and gets one number, the choices of an item
stand in one row, and the softmax goes over them: transformers' ...ForMultipleChoice. Items see nothing of each other.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.batch import Array, Batch, Kind, Row, Vocabulary
from jaxlm.data.rows.items import Asked, Items, Shards
from jaxlm.errors import UserError
from jaxlm.models.heads import Head, of_choices
from jaxlm.objectives import reading
from jaxlm.objectives.labelled import Labelled, check_number, one_label
from jaxlm.objectives.predictions import Logits, Predictions


@dataclasses.dataclass(kw_only=True)
class MultipleChoice(Labelled):
    """data.text_fields are the question and the choices; the labels, sorted, stand for these in their order (0, 1, 2
    or A, B, C)."""

    choices: int  # of an item; max_tokens is for the question and one of them

    @property
    def needs_sentences(self) -> bool:
        """Where one field of a record ends."""
        return True

    @property
    def takes(self) -> tuple[Kind, ...]:
        """Every kind that reads texts."""
        return ("encoder", "decoder", "encoder_decoder")

    def validate(self, where: str) -> None:
        """UserError, too, where the labels are not as many as the choices."""
        super().validate(where)
        check_number(self, where, "choices", 64)
        if self.labels and len(self.labels) != self.choices:
            raise UserError(
                f"{where}.choices={self.choices}, but the labels are {', '.join(self.labels)}: there is one for each "
                "choice, and sorted they have the order of data.text_fields. Fix: --config.objective.choices="
                f"{len(self.labels)}, or data in which each choice is right somewhere."
            )

    def told(self, labels: tuple[str, ...]) -> "MultipleChoice":
        """UserError for labels that are not as many as the choices."""
        made = dataclasses.replace(self, labels=labels)
        made.validate("config.objective")
        return made

    def heads(self, config: Any) -> Mapping[str, Head]:
        """One number for every text."""
        return of_choices(config)

    def items(self, shards: Shards, vocabulary: Vocabulary, asked: Asked) -> Items:
        """The question with each choice, side by side; every pair is cut to `max_tokens`."""
        how = {"unit": "choices", "texts": 2 * self.choices, "joined": True}
        return self.whole(shards, vocabulary, asked, groups=self.choices, **how)

    def prepare(self, row: Row, vocabulary: Vocabulary, rng: np.random.Generator, *, train: bool) -> Batch:
        """Every choice is a segment of its own; nothing is drawn."""
        batch, begins = reading.apart(row, row.texts_T // 2, self.choices)
        targets = dataclasses.replace(one_label(row, self.column, vocabulary), first_BC=begins)
        return dataclasses.replace(batch, types_BT=row.texts_T % 2, targets=targets)

    def predict(self, model: Any, batch: Batch, key: Array | None) -> Predictions:
        """`choice`: a number for every choice of every item, [B, C, choices]."""
        return judge(model, batch, key, self.choices)

    def right_classes(self, batch: Batch) -> dict[str, tuple[Array, Array]]:
        """That of every item."""
        return {"choice": (batch.targets.labels_BC, batch.targets.weights_BC)}


def judge(model: Any, batch: Batch, key: Array | None, choices: int) -> Predictions:
    """`choice` of a batch whose `targets.first_BC` has the first token of every choice, those of an item in a row."""
    asked = batch.targets
    encoded, x_BCD = reading.items(model, batch, key, asked.first_BC, asked.start_B, "own")

    def head(model: Any, x_BCD: Array) -> Array:
        each_BC = model.classify(x_BCD, "choices", key)[..., 0]
        return each_BC.reshape(len(each_BC), -1, choices)

    return Predictions.of(encoded, choice=Logits(x_BCD, model, head, asked.weights_BC))
