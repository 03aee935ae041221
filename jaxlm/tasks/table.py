"""A model on a table with the right answers. In: a task, a file. Out: answers beside them, and what they are worth.

The columns are those of the run's own data. UserError for a label that the run does not know, with file and line.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxlm.data.corpus import lines, readers
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError, did_you_mean
from jaxlm.evaluate import paired
from jaxlm.evaluate.classes import Sampled
from jaxlm.evaluate.paired import Difference
from jaxlm.tasks.task import Measured, Task, Values

Row = tuple[Record, dict[str, Any]]  # what is read of it, and all of its fields


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """Records with what a task made of them."""

    task: Task
    records: list[Record]
    answers: list[Values]
    asked: list[Any]

    def measured(self) -> Measured:
        """Against the right answers."""
        if not self.records:
            return Measured(items=0, metrics={})
        return self.task.measure(self.records, self.answers, self.asked)


def rows(task: Task, path: str) -> list[Row]:
    """All rows of `path` (CSV, TSV, JSONL, Parquet, CoNLL); at least one. Of some tasks a file of text is one."""
    if not readers.is_table(path):
        return [_whole(task, path)]
    wanted, found = task.wanted(), []
    for where, number, row in readers.rows(path, wanted, whole=True):
        if missing := [name for name in wanted.names if name not in row]:
            raise UserError(
                f'{where}: no field "{missing[0]}"; the run reads {", ".join(wanted.names)}.'
                f"{did_you_mean(missing[0], row)} Fields there: {', '.join(map(str, row)) or 'none'}. Rename the field."
            )
        found.append((task.record(row, where, number), row))
    if not found:
        raise UserError(f"{path}: there is no row in it.")
    return found


def _whole(task: Task, path: str) -> Row:
    if not task.whole_files:
        raise UserError(f"--data={path}: a table is a .csv, .tsv, .jsonl, .parquet or .conll file.")
    text = "".join(line for _, line in lines.numbered(path))
    if not text.strip():
        raise UserError(f"{path}: there is no text in it.")
    return Record((text,), where=path), {"text": text}


def answered(task: Task, records: Iterable[Record]) -> Answered:
    """All of them."""
    found = Answered(task=task, records=[], answers=[], asked=[])
    for part in readers.together(iter(records)):
        items = [task.item(record) for record in part]
        asked = task.ask(items)
        found.records.extend(part)
        found.asked.extend(asked)
        found.answers.extend(task.answer(items, asked))
    return found


def compared(one: Answered, other: Answered) -> dict[str, Difference]:
    """`one` less `other`, on the same records. UserError for tasks whose metrics are not of single items."""
    check_same(one.task, other.task)
    sides = (one.records + other.records, one.answers + other.answers, one.asked + other.asked)
    both = one.task.measure(*sides).metrics
    if isinstance(both, Sampled) and both.number == len(sides[0]):
        names = set(one.task.metrics) & set(other.task.metrics)
        return {name: value for name, value in paired.compared(both).items() if name in names}
    here = one.measured().metrics
    there = one.task.measure(other.records, other.answers, other.asked).metrics
    if not isinstance(here, Sampled) or not isinstance(there, Sampled) or here.number != there.number:
        raise UserError(
            f"two models cannot be compared item by item where each {one.task.does}. Leave --against out."
        )
    return paired.of_groups(here, there)


def check_same(one: Task, other: Task) -> None:
    """UserError for tasks of two kinds, or with other labels."""
    if one.kind is not other.kind:
        raise UserError(f"one run {one.does}, the other {other.does}: they answer nothing in common.")
    if one.labels != other.labels:
        only = sorted(set(one.labels) ^ set(other.labels))
        raise UserError(
            f"the runs have different labels: {', '.join(only[:10]) or 'in another order'}. Train them on the same."
        )


def grouped(measured: Measured, values: Sequence[Any]) -> dict[str, tuple[int, dict[str, float]]]:
    """{value: (items, metrics)} of the items with each of `values`, one an item."""
    if not isinstance(measured.metrics, Sampled) or measured.metrics.number != len(values):
        raise UserError("--by: the metrics of this task are not of single items. Leave --by out.")
    names, places = np.unique([str(value) for value in values], return_inverse=True)
    groups = {str(name): np.flatnonzero(places == k) for k, name in enumerate(names)}
    return {name: (len(at), dict(measured.metrics.measure(at))) for name, at in groups.items()}


def worst(found: Answered, measured: Measured, number: int) -> list[dict[str, Any]]:
    """{where, fault, item, right, answer} of the items whose answers are furthest from the right ones."""
    faults = _faults(measured)
    names = [one.field for one in found.task.wanted().values] or ["right"]
    listed = []
    for k in np.argsort(-faults, kind="stable")[:number]:
        record = found.records[k]
        listed.append(
            {
                "where": record.where,
                "fault": float(faults[k]),
                "item": dict(zip(found.task.fields, found.task.item(record), strict=False)),
                "right": dict(zip(names, record.values, strict=False)),
                "answer": found.answers[k],
            }
        )
    return listed


def _faults(measured: Measured) -> np.ndarray:
    """The task's own, else how much an item alone lacks of the largest first metric; none where it is not of items."""
    if len(measured.faults):
        return np.asarray(measured.faults)
    metrics = measured.metrics
    if not isinstance(metrics, Sampled) or metrics.number != measured.items:
        return np.zeros(0)
    first = next(iter(metrics))
    alone = np.array([metrics.measure(np.array([k]))[first] for k in range(measured.items)])
    return alone.max() - alone
