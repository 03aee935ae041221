"""What a run reads, task by task. In: a Run and its tokenised corpora. Out: rows, and the global batches made of them.

A run of one objective is one stream without a name, whose batches are a `Batch`; a run of several tasks has a stream
each, and its batches are a mapping from the task's name to its `Batch`. Nothing outside this module and
objectives/multi_task.py tells the two apart. Every stream has its own rows, plan, epochs and draws.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax

from jaxlm.batch import Batch
from jaxlm.config import Data, Run
from jaxlm.data import draws
from jaxlm.data.feed import Feed
from jaxlm.data.rows import Rows
from jaxlm.data.shards import Shards
from jaxlm.errors import UserError
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.partition import mesh as meshes

# What a step takes: of a run of one objective, or of several tasks.
AnyBatch = Batch | Mapping[str, Batch]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """One task of a run: what it is trained on, and how many rows of it stand in a global batch."""

    name: str  # empty in a run of one objective
    objective: Any  # with what it learned from the training split
    data: Data
    batch_rows: int
    seed: int  # of its rows and draws
    splits: dict[str, Shards]

    def batch(self, batch: Batch) -> AnyBatch:
        """A batch of this stream alone, as the step takes it."""
        return {self.name: batch} if self.name else batch

    def of(self, metric: str) -> str:
        """`mlm_loss` of this stream: `mlm_loss`, or `<task>/mlm_loss`."""
        return f"{self.name}/{metric}" if self.name else metric


@dataclasses.dataclass(frozen=True)
class StreamRows:
    """The packed rows of a stream in one stage and split."""

    stream: Stream
    rows: Rows

    def fingerprint(self, what: str) -> dict[str, str]:
        """{what, with the task: of everything that decides the rows}."""
        return {f"{what} of {self.stream.name}" if self.stream.name else what: self.rows.fingerprint}


def tasks(run: Run) -> tuple[Task, ...]:
    """The tasks of a run; its one objective is a task without a name. UserError for data that is none."""
    if not isinstance(run.objective, MultiTask):
        return (Task(name="", objective=run.objective, weight=1.0, rows=run.batch_size),)
    for i, task in enumerate(run.objective.tasks):
        if task.data is not None and not isinstance(task.data, Data):
            raise UserError(
                f"config.objective.tasks[{i}].data={task.data!r}: allowed is a jaxlm.config.Data, or None."
            )
    return run.objective.tasks


def check_rows(run: Run, mesh: jax.sharding.Mesh) -> None:
    """UserError unless the rows of every task divide over the mesh and the micro-batches."""
    for i, task in enumerate(tasks(run)):
        name = f"config.objective.tasks[{i}].rows" if task.name else "config.batch_size"
        meshes.check_batch_size(task.rows, mesh, name, accumulate=run.accumulate)


def stream_seed(run: Run, task: Task) -> int:
    """Two tasks over one corpus must not read the same rows in the same order, nor draw the same masks."""
    return draws.derived_seed(run.seed, f"task {task.name}") if task.name else run.seed


class Feeds:
    """One feed per stream, in step: iterates over what the train step takes. A context manager."""

    def __init__(self, feeds: Sequence[tuple[Stream, Feed]]) -> None:
        self._feeds = list(feeds)

    @property
    def wait_s(self) -> float:
        """Time that the last next() waited for data."""
        return sum(feed.wait_s for _, feed in self._feeds)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> AnyBatch:
        (first, feed), *rest = self._feeds
        return joined(first.batch(next(feed)), *(stream.batch(next(feed)) for stream, feed in rest))

    def close(self) -> None:
        """Ends the threads and closes the sources."""
        for _, feed in self._feeds:
            feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def joined(first: AnyBatch, *rest: AnyBatch) -> AnyBatch:
    """One batch out of those of all streams; there is nothing to join in a run of one objective."""
    if isinstance(first, Batch):
        return first
    return {name: batch for part in (first, *rest) for name, batch in dict(part).items()}  # pyright: ignore
