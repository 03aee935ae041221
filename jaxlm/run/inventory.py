"""What a run's data say of it, before anything is built. In: a Run. Out: the Run with its labels, and its steps.

The heads of a model depend on how many there are, and what a number means belongs to the run: its config keeps them.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from jaxlm.config import Data, Run
from jaxlm.data.corpus import corpus
from jaxlm.data.corpus.columns import Label, Labels, Number
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.corpus.strata import Moved, Strata, hexadecimal
from jaxlm.data.places import cache_folder
from jaxlm.data.shards import shards
from jaxlm.errors import UserError, did_you_mean
from jaxlm.objectives.multi_task import MultiTask
from jaxlm.run import inputs, length, streams

_SHOWN = 20  # labels of a list


def filled(run: Run, say: Callable[[str], None], moved: Moved | None = None) -> Run:
    """`run`, or a copy whose objectives have their labels and slots, and whose epochs are steps. UserError for a column
    that gives none.

    `moved`: of a run that goes on what it began with, whose splits stay as they were; None: what its labels need.
    """
    moved = () if isinstance(run.objective, MultiTask) else moved  # of several tasks the hash decides alone
    made = [_told(task.objective, task.data or run.data, moved, say) for task in streams.tasks(run)]
    told = [objective for objective, _ in made]
    run = _with(run, told)
    if not isinstance(run.objective, MultiTask):
        run = dataclasses.replace(run, data=made[0][1])
    if not any(objective.missing_targets for objective in told):
        return length.counted(run, say)
    longest = max(stage.length for stage in run.stages)
    for i, stream in enumerate(inputs.text(run, say).streams):
        if stream.objective.missing_targets:
            train = [splits["train"] for splits in stream.sources.values()]
            told[i], line = told[i].measured(train, longest)
            say(f"  targets            {line}")
    return length.counted(_with(run, told), say)


def _with(run: Run, objectives: Sequence[Any]) -> Run:
    """The run with these objectives of its tasks."""
    if not isinstance(run.objective, MultiTask):
        return dataclasses.replace(run, objective=objectives[0])
    tasks = zip(run.objective.tasks, objectives, strict=True)
    made = tuple(dataclasses.replace(task, objective=objective) for task, objective in tasks)
    return dataclasses.replace(run, objective=dataclasses.replace(run.objective, tasks=made))


def _told(objective: Any, data: Data, moved: Moved | None, say: Callable[[str], None]) -> tuple[Any, Data]:
    """Both, with what the columns of the data say."""
    for one in data.corpora().values():
        objective.check_columns(one.columns)
    column = objective.missing_labels
    if not column:
        return objective, data
    counts: collections.Counter[str] = collections.Counter()
    held_out: list[int] = []
    moves: list[tuple[str, str, str, int]] = []
    for one in data.corpora().values():
        found, held, strata = _counted(dataclasses.replace(one, moved=moved or ()), column, data)
        counts.update(found)  # += would drop those that were not counted
        held_out.append(held)
        moves = list(strata.moves()) if moved is None and data.mixture is None and held else []
    _check_enough(counts, sum(held_out), column)
    data = _stratified(data, moves, say) if moved is None else dataclasses.replace(data, moved=moved)
    if moves:
        counts = _counted(data.corpus_config(), column, data)[0]
    if len(counts) < objective.fewest_labels:
        raise UserError(
            f'column "{column}" of the training split has {len(counts)} label{"s" * (len(counts) != 1)} '
            f"({', '.join(counts) or 'none'}), and {objective.fewest_labels} or more "
            "are needed. Fix: another column, --config.objective.column=NAME with data.columns, or more data."
        )
    total, most = counts.total(), counts.most_common(_SHOWN)
    shown = (f"{name} {number:,} ({number / total:.1%})" if total else name for name, number in most)
    listed = "  ".join(shown)
    say(f"  labels             {listed}{'  ...' if len(counts) > _SHOWN else ''}")
    return objective.told(tuple(sorted(counts))).counted(counts), data


def _stratified(data: Data, moves: Sequence[tuple[str, str, str, int]], say: Callable[[str], None]) -> Data:
    """The data with a document of every label in training and validation, where there are two."""
    if moves:
        listed = ", ".join(f"{label} to {target}" for label, _, target, _ in moves[:_SHOWN])
        say(f"  stratified         {listed}{', ...' if len(moves) > _SHOWN else ''}: else no row of it there")
    placed = tuple((hexadecimal(digest), target) for _, _, target, digest in moves)
    return dataclasses.replace(data, moved=placed)


def _check_enough(counts: "collections.Counter[str]", held_out: int, column: str) -> None:
    """UserError for numbers with a fraction, and for fewer validation rows than labels (0: not known, or none)."""
    if counts and all(re.fullmatch(r"-?\d*\.\d+", name) for name in counts):
        raise UserError(
            f'column "{column}" holds numbers ({", ".join(sorted(counts)[:3])}, ...), which are no labels. Fix: "'
            f'--config.data.columns=(Number(field={column!r}),)" and "--config.objective=Regression(column='
            f"{column!r}, texts=1, pooling='own', max_tokens=125, items_per_row=8)\"; or whole numbers."
        )
    if 0 < held_out < len(counts):
        raise UserError(
            f'column "{column}" has {len(counts)} labels, and the validation split {held_out} rows: what is measured '
            "on fewer rows than labels says nothing. Fix: --config.data.validation_share=0.2 or more of more rows, or "
            "--config.data.validation_share=0 for none."
        )


_Counts = tuple["collections.Counter[str]", int, Strata]


def _counted(one: Corpus, column: str, data: Data) -> _Counts:
    """(how often each label stands in the training split of a corpus, rows of its validation split; 0: not known; where
    documents with one label each stand)."""
    if corpus.is_prepared(one.source):
        train = shards.open_shards(corpus.prepared(one.source), "train", tokenizer_fingerprint=None)
        # How often each occurs is not kept.
        return collections.Counter(dict.fromkeys(train.labels(column), 0)), 0, Strata()
    names = [value.field for value in one.columns]
    place = names.index(column) if column in names else -1
    if place < 0 or isinstance(one.columns[place], Number):
        raise UserError(
            f'config.objective.column="{column}": data.columns has no such labels (it has '
            f"{', '.join(names) or 'none'})."
            f'{did_you_mean(column, names)} Fix: "--config.data.columns=(Label(field={column!r}),)".'
        )
    counts, held_out, kind, strata = collections.Counter(), 0, one.columns[place], Strata()
    elsewhere: dict[str, str] = {}  # labels of files of their own, and where each stands first
    for record in corpus.records(one, cache_folder(data.cache)):
        split, value = one.split(record), record.values[place]
        if split == "train":
            counts.update(_names(value))
        elif split in one.own:
            for name in _names(value):
                elsewhere.setdefault(name, record.where)
        held_out += split == "validation" and isinstance(kind, Label | Labels)
        if isinstance(kind, Label) and not record.split and one.share("validation"):
            strata.add(str(value), split, one.digest(record))
    if unknown := next((name for name in elsewhere if name not in counts), None):
        raise UserError(
            f'{elsewhere[unknown]}: the label "{unknown}" of the column "{column}" is none of the training data\'s '
            f"({', '.join(sorted(counts))}).{did_you_mean(unknown, counts)} Repair or remove the row."
        )
    return counts, held_out, strata


def _names(value: Any) -> list[str]:
    """The labels of a record: one, several, or those of its spans."""
    if isinstance(value, tuple):
        return [label for *_, label in value]
    return list(value) if isinstance(value, list) else [str(value)]
