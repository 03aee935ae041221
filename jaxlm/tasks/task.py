"""The contract of a task. In: a model trained for it, items of a table. Out: answers; with right ones, metrics.

`ask` computes, `answer` decides: what several models say of an item is averaged between the two.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.config import Data
from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError, did_you_mean
from jaxlm.evaluate.classes import Interval
from jaxlm.infer.predict import Predictor
from jaxlm.report.drawing import Drawing

Values = dict[str, Any]
Item = tuple[str, ...]  # a text, or as many as `fields`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """How well a model does on a table."""

    items: int  # rows of it
    metrics: Mapping[str, Interval]  # a `Sampled`, where two models are to be compared
    table: str = ""  # what else is worth reading, such as a line for every label
    # Of every item, how far its answer is from the right one; (): by the first metric.
    faults: Sequence[float] = ()
    drawings: Mapping[str, Drawing] = dataclasses.field(default_factory=dict)  # by the name of their file

    def to_json(self) -> dict[str, Any]:
        """{items, metrics: {name: {value, low, high}}}."""
        values = {name: dataclasses.asdict(one) for name, one in self.metrics.items()}
        return {"items": self.items, "metrics": values}


class Task:
    """What a model does with a row. Guaranteed: nothing is drawn at random, and an item's answer does not depend on
    the items beside it."""

    does: str  # "one of 12 labels"
    columns: tuple[str, ...]  # names of the values that an answer adds to a row
    metrics: tuple[str, ...] = ()  # names of what `measure` gives
    fields: tuple[str, ...] = ("text",)  # what the texts of an item are called where the model was trained
    labels: tuple[str, ...] = ()  # that `ask` has numbers of
    whole_files: bool = False  # whether a file of text is an item of it
    note: str = ""  # what was decided after training, and on what

    @property
    def kind(self) -> type["Task"]:
        """Tasks of one kind, with the same labels, answer the same question."""
        return type(self)

    def check(self, text: str) -> None:
        """UserError for a text that it cannot take."""

    def text(self, name: str, value: Any, where: str) -> Any:
        """What a field of a row without a right answer says; `name`: what `fields` calls it. UserError for no words."""
        return value

    def of_row(self, row: Mapping[str, Any], item: Item, where: str) -> Item:
        """What the model is asked of a row without a right answer, whose texts are `item`."""
        return item

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Of every item what the model says, a pytree of float arrays; () for a task without any."""
        return [()] * len(items)

    def together(
        self,
        tasks: Sequence["Task"],
        items: Sequence[Item],
        said: Sequence[Sequence[Any]],
        shares: Sequence[float],
    ) -> list[Any]:
        """Of every item what `tasks` say together, in the form that `answer` takes: the mean, each with its share.
        UserError where what they say has different shapes."""
        return [self._mean(of_item, shares) for of_item in zip(*said, strict=True)]

    def _mean(self, of_item: Sequence[Any], shares: Sequence[float]) -> Any:
        shapes = [jax.tree.map(np.shape, one) for one in of_item]
        if not jax.tree.leaves(of_item[0]) or any(one != shapes[0] for one in shapes):
            raise UserError(f"a model that {self.does} says nothing that could be averaged. Name one run.")
        mean = lambda *arrays: sum(share * array for share, array in zip(shares, arrays, strict=True))
        return jax.tree.map(mean, *of_item)

    def votes(self, asked: Sequence[Any]) -> list[Any]:
        """1 for what is likeliest and 0 for the rest, in the form of `ask`. UserError for a task without a choice."""
        raise UserError(
            f"this model {self.does}: it makes no choice that could be voted on. Leave --vote out."
        )

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The values of every item."""
        raise NotImplementedError

    def decide(self, *, temperature: float | None = None, threshold: float | None = None) -> None:
        """These instead of what is kept with the run. UserError for a task that has no such."""
        name = "--threshold" if temperature is None else "--temperature"
        raise UserError(f"this model {self.does}: {name} is of labels with probabilities. Leave it out.")

    def look(self, **settings: Any) -> None:
        """Settings of `objectives.search.Search` for the answers it writes. UserError for a task that writes none."""
        name = next(iter(settings)).replace("_", "-")
        raise UserError(f"this model {self.does}: --{name} is of a model that writes. Leave it out.")

    def undecide(self) -> None:
        """As it was trained."""

    def decided(self, asked: Sequence[Any]) -> list[Any]:
        """What `ask` gives, of what the model says as it was trained."""
        return list(asked)

    def calibrated(self, records: Sequence[Record], asked: Sequence[Any]) -> dict[str, float]:
        """{temperature or threshold: the best on these}, which `decide` takes. UserError for a task that has none."""
        raise UserError(f"this model {self.does}: --calibrate is of labels with probabilities. Leave it out.")

    def wanted(self) -> Wanted:
        """What is read of a table with right answers. UserError for a task that has none."""
        raise UserError(
            f"this model {self.does}: there is no right answer to compare with. --data measures a model that was "
            "fine-tuned for a task; of another run: jaxlm evaluate --split=test measures its own objective."
        )

    def record(self, row: Mapping[str, Any], where: str, number: int) -> Record:
        """A row of a table with right answers, as `wanted` says."""
        return dataclasses.replace(readers.of(dict(row), self.wanted(), where, number), where=where)

    def item(self, record: Record) -> Item:
        """What the model is asked of a row with a right answer."""
        return record.texts

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """The answers against what `wanted` read."""
        raise NotImplementedError


class Trained(Task):
    """A task that a model was fine-tuned for, with a column of right answers; `data`: how its texts are named."""

    def __init__(self, model: Predictor, data: Data, objective: Any) -> None:
        self.model, self.data, self.objective = model, data, objective
        self.fields = self.asks(data)
        self.labels = tuple(getattr(objective, "labels", ()))

    @classmethod
    def asks(cls, data: Data) -> tuple[str, ...]:
        """The texts of an item of such data."""
        return data.corpus_config().wanted.texts

    def text(self, name: str, value: Any, where: str) -> Any:
        """Words of a list joined, where they were in training."""
        lists = self.data.corpus_config().wanted.lists(name)
        return lists[0].join(value, where) if lists and isinstance(value, list) else value

    def wanted(self) -> Wanted:
        """The texts, and the objective's column."""
        columns = tuple(one for one in self.data.columns if one.field == self.objective.column)
        return Wanted(self.data.corpus_config().wanted.texts, columns)

    def record(self, row: Mapping[str, Any], where: str, number: int) -> Record:
        """UserError, too, for an empty text: training leaves it out, so no answer to it would mean anything."""
        found = super().record(row, where, number)
        if not found.texts[0]:
            raise UserError(f'{where}: field "{self.wanted().texts[0]}" is empty. Repair or remove the row.')
        return found


def known(label: str, labels: Sequence[str], where: str) -> int:
    """The number of a label. UserError, with file and line, for one that the run does not know."""
    if label not in labels:
        raise UserError(
            f'{where}: the label "{label}" is none of the run\'s ({", ".join(labels)}).'
            f"{did_you_mean(label, labels)} Repair or remove the row."
        )
    return labels.index(label)
