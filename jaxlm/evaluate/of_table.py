"""A classifier on a table with the right labels. In: a run, a file. Out: what it says of every row, and the truth.

The columns are those of the run's own data. UserError for a label that the run does not know, with file and line.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from jaxlm.config import Run
from jaxlm.data.corpus import files, readers
from jaxlm.data.corpus.columns import Label, Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError, did_you_mean
from jaxlm.infer import classify
from jaxlm.infer.loaded import Loaded

_AT_ONCE = 1024  # rows that are read and computed together


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """Rows with their answers, in the order of the file."""

    names: tuple[str, ...]  # of the K labels
    right_N: np.ndarray  # int64
    shares_NK: np.ndarray  # float64 probabilities


def judged(model: Loaded, path: str) -> Judged:
    """All rows of `path` (CSV, TSV, JSONL, Parquet), classified."""
    run, objective = _classifier(model)
    texts = tuple(run.data.text_fields) or (run.data.text_field,)
    place = {name: k for k, name in enumerate(objective.labels)}
    records = _records(path, Wanted(texts, (Label(field=objective.column),)))
    right, shares = [], []
    for part in iter(lambda: list(itertools.islice(records, _AT_ONCE)), []):
        for record in part:
            name = str(record.values[0])
            if name not in place:
                raise UserError(
                    f'{record.where}: the label "{name}" is none of the run\'s ({", ".join(objective.labels)}).'
                    f"{did_you_mean(name, place)} Repair or remove the row."
                )
            right.append(place[name])
        found = classify.classify(model, objective, [record.texts for record in part])
        shares += [list(one["probabilities"].values()) for one in found]
    if not right:
        raise UserError(f"{path}: there is no row in it.")
    return Judged(names=objective.labels, right_N=np.array(right), shares_NK=np.array(shares))


def _records(path: str, wanted: Wanted) -> Iterator[Record]:
    for where, number, row in readers.rows(path, wanted, whole=True):
        if missing := [name for name in wanted.names if name not in row]:
            raise UserError(
                f'{where}: no field "{missing[0]}"; the run reads {", ".join(wanted.names)}.'
                f"{did_you_mean(missing[0], row)} Fields there: {', '.join(map(str, row)) or 'none'}. Rename the field."
            )
        yield readers.of(row, wanted, where, number)


def _classifier(model: Loaded) -> tuple[Run, classify.Classification]:
    run = model.stored.run
    if run is None or not isinstance(run.objective, classify.Classification):
        raise UserError(
            f"{model.stored.where}: --data measures a classifier, and this is none. Of another run: jaxlm evaluate "
            "--split=test measures its own objective."
        )
    return run, run.objective


def is_table(path: str) -> bool:
    """Whether a file is one of rows with columns."""
    return files.suffixes(path)[0] in readers.TABLES
