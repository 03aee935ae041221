"""Several models as one. In: tasks of one kind, with the same labels. Out: a `Task` that answers with their mean.

What `ask` returns is averaged: probabilities of classes, log-probabilities of tags (which are then decoded once), of
answers in a context the probabilities of all parts that a model proposes. The models may have different tokenizers,
sizes and families.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError
from jaxlm.tasks import table
from jaxlm.tasks.task import Item, Measured, Task, Values


class Ensemble(Task):
    """The first of the tasks, asked with the mean of what all of them say."""

    def __init__(self, tasks: Sequence[Task], weights: Sequence[float] = (), *, vote: bool = False) -> None:
        """`weights`: one a task, any positive sum. `vote`: each counts for what it finds likeliest."""
        self._tasks, self._first, self._vote = tasks, tasks[0], vote
        self._shares = _shares(weights or [1.0] * len(tasks), len(tasks))
        for one in tasks[1:]:
            table.check_same(self._first, one)
            if one.columns != self._first.columns or len(one.fields) != len(self._first.fields):
                raise UserError("the runs take other texts, or give other answers. Name runs of one task.")
        self.does = f"{self._first.does}, {len(tasks)} models together"
        self.columns, self.metrics = self._first.columns, self._first.metrics
        self.fields, self.labels = self._first.fields, self._first.labels
        self.whole_files = self._first.whole_files
        self.note = "; ".join(one.note for one in tasks if one.note)

    @property
    def kind(self) -> type[Task]:
        """As the first is."""
        return self._first.kind

    def check(self, text: str) -> None:
        """All of them can take it."""
        for one in self._tasks:
            one.check(text)

    def text(self, name: str, value: Any, where: str) -> Any:
        """As the first does."""
        return self._first.text(name, value, where)

    def of_row(self, row: Mapping[str, Any], item: Item, where: str) -> Item:
        """As the first does."""
        return self._first.of_row(row, item, where)

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """What they say together, as the first of them has it: the weighted mean."""
        said = [one.ask(items) for one in self._tasks]
        if self._vote:
            said = [one.votes(asked) for one, asked in zip(self._tasks, said, strict=True)]
        return self._first.together(self._tasks, items, said, self._shares)

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """As the first does."""
        return self._first.answer(items, asked)

    def wanted(self) -> Wanted:
        """As the first does."""
        return self._first.wanted()

    def record(self, row: Any, where: str, number: int) -> Record:
        """As the first does."""
        return self._first.record(row, where, number)

    def item(self, record: Record) -> Item:
        """As the first does."""
        return self._first.item(record)

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """As the first does."""
        return self._first.measure(records, answers, asked)

    def votes(self, asked: Sequence[Any]) -> list[Any]:
        """As the first does."""
        return self._first.votes(asked)


def _shares(weights: Sequence[float], number: int) -> list[float]:
    if len(weights) != number or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise UserError(
            f"--weights={','.join(f'{w:g}' for w in weights)}: {number} numbers, one a run, none below 0."
        )
    return [weight / sum(weights) for weight in weights]
