"""A fine-tuned model on a table with the right answers. In: a run, a file. Out: metrics, with intervals.

The columns are those of the run's own data. UserError for a label that the run does not know, with file and line.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxlm.config import Run
from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError, did_you_mean
from jaxlm.evaluate import classes, spans
from jaxlm.evaluate.classes import Interval
from jaxlm.infer import classify, tag
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.tagging import Tagging


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out."""

    items: int  # rows of the table
    metrics: dict[str, Interval]
    by_label: str  # a line for every label


def measured(model: Loaded, path: str) -> Measured:
    """All rows of `path` (CSV, TSV, JSONL, Parquet, CoNLL), answered and compared."""
    run = model.stored.run
    objective = None if run is None else run.objective
    if run is None or not isinstance(objective, Classification | Tagging):
        raise UserError(
            f"{model.stored.where}: --data measures a classifier or a tagger, and this is none. Of another run: jaxlm "
            "evaluate --split=test measures its own objective."
        )
    parts = readers.together(_records(path, run, objective.column))
    measure = _classes if isinstance(objective, Classification) else _spans
    return measure(model, run, parts, path)


def _classes(model: Loaded, run: Run, parts: Iterator[list[Record]], path: str) -> Measured:
    objective, right, shares = run.objective, [], []
    for part in parts:
        right += [_known(str(record.values[0]), objective.labels, record.where) for record in part]
        found = classify.classify(model, objective, [record.texts for record in part])
        shares += [list(one["probabilities"].values()) for one in found]
    _check_some(right, path)
    right_N, shares_NK = np.array(right), np.array(shares)
    table = classes.table(objective.labels, right_N, shares_NK.argmax(axis=1))
    return Measured(items=len(right), metrics=classes.metrics(right_N, shares_NK), by_label=table)


def _spans(model: Loaded, run: Run, parts: Iterator[list[Record]], path: str) -> Measured:
    objective, right, found = run.objective, [], []
    for part in parts:
        for record in part:
            for *_, label in _of(record):
                _known(label, objective.labels, record.where)
            right.append(_of(record))
        texts = [record.texts[0] for record in part]
        found += tag.tag(model, objective, texts, between=tag.between(run))
    _check_some(right, path)
    table = spans.table(right, found, objective.labels)
    return Measured(items=len(right), metrics=spans.metrics(right, found, objective.labels), by_label=table)


def _of(record: Record) -> Sequence[Any]:
    return record.values[0]  # pyright: ignore[reportReturnType]  # of a column of spans


def _known(label: str, labels: Sequence[str], where: str) -> int:
    if label not in labels:
        raise UserError(
            f'{where}: the label "{label}" is none of the run\'s ({", ".join(labels)}).'
            f"{did_you_mean(label, labels)} Repair or remove the row."
        )
    return labels.index(label)


def _check_some(rows: list[Any], path: str) -> None:
    if not rows:
        raise UserError(f"{path}: there is no row in it.")


def _records(path: str, run: Run, column: str) -> Iterator[Record]:
    data = run.data.corpus_config()
    wanted = Wanted(data.wanted.texts, tuple(one for one in data.columns if one.field == column))
    for where, number, row in readers.rows(path, wanted, whole=True):
        if missing := [name for name in wanted.names if name not in row]:
            raise UserError(
                f'{where}: no field "{missing[0]}"; the run reads {", ".join(wanted.names)}.'
                f"{did_you_mean(missing[0], row)} Fields there: {', '.join(map(str, row)) or 'none'}. Rename the field."
            )
        yield readers.of(row, wanted, where, number)
