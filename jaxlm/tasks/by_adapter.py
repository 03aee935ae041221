"""Rows of a table that each name an adapter. In: a base with several, which do one kind of task. Out: a `Task`.

All rows go through the model together, each with its own adapter; labels are those of its adapter.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.tasks.classification import Classifying
from jaxlm.tasks.label_sets import LabelSets
from jaxlm.tasks.scores import Scoring
from jaxlm.tasks.task import Item, Task, Trained, Values
from jaxlm.tasks.untrained import Embedding, Writing

_TAKEN = (Classifying, LabelSets, Scoring, Writing, Embedding)  # one row of the model an item
_SETTINGS = ("texts", "pooling", "max_tokens")  # of an objective: how an item is read


class ByAdapter(Task):
    """The last of an item's texts is the name of its adapter."""

    def __init__(self, model: Loaded, tasks: Mapping[str, Task], field: str) -> None:
        """`field`: of a row, with the name."""
        self._model, self._tasks, self._field = model, tasks, field
        self._first = first = next(iter(tasks.values()))
        for name, task in tasks.items():
            if type(task) is not type(first) or not isinstance(task, _TAKEN) or _read(task) != _read(first):
                raise UserError(
                    f"adapter {name} {task.does}, and the first {first.does}: a batch takes adapters that classify "
                    "texts, score them, embed or write, all of them read alike. Fix: predict with each alone."
                )
        self.does = f"{first.does if len(tasks) == 1 else 'each by its adapter'}, {len(tasks)} adapters"
        self.columns, self.fields = first.columns, first.fields

    def of_row(self, row: Mapping[str, Any], item: Item, where: str) -> Item:
        """With its adapter."""
        name = row.get(self._field)
        if name not in self._tasks:
            there = ", ".join(self._tasks)
            raise UserError(
                f'{where}: field "{self._field}" names the adapter of a row and is {name!r:.60}; adapters: {there}. '
                f"Fix: {'repair the row' if name else 'a table with that column as --input'}, or --adapter-field=NAME."
            )
        return (*item, str(name))

    def check(self, text: str) -> None:
        """It fits the model, whatever the adapter."""
        self._first.check(text)

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """All together; then each as its adapter decides, without the classes that only others have."""
        said = self._choosing(items).ask([item[:-1] for item in items])
        if not isinstance(self._first, Trained):
            return said
        own = [(self._tasks[item[-1]], one) for item, one in zip(items, said, strict=True)]
        return [task.decided([one[: len(task.labels) or None]])[0] for task, one in own]

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """As the adapter of each does."""
        if not isinstance(self._first, Trained):
            return self._choosing(items).answer([item[:-1] for item in items], asked)
        each = zip(items, asked, strict=True)
        return [self._tasks[item[-1]].answer([item[:-1]], [one])[0] for item, one in each]

    def _choosing(self, items: Sequence[Item]) -> Any:
        made = copy.copy(self._first)
        made.undecide()
        made.model = self._model.choosing([item[-1] for item in items], len(items))  # pyright: ignore
        return made


def _read(task: Task) -> list[Any]:
    return [getattr(getattr(task, "objective", None), name, None) for name in _SETTINGS]
