"""What a run reads, task by task. In: a Run and its tokenised corpora. Out: rows, and the global batches made of them.

Every task is a stream with its own rows, plan, epochs and draws; a run of one objective is one, named "".
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax

from jaxlm.batch import Batches
from jaxlm.config import Data, Run
from jaxlm.data import draws, pipeline
from jaxlm.data.feed import Feed
from jaxlm.data.rows.mixture import AnyRows
from jaxlm.data.shards.shards import Shards
from jaxlm.errors import UserError
from jaxlm.objectives import multi_task
from jaxlm.objectives.multi_task import Task
from jaxlm.partition import mesh as meshes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """One task of a run: what it is trained on, and how many rows of it stand in a global batch."""

    task: Task  # its objective with what it learned from the training split
    data: Data
    seed: int  # of its rows and draws
    sources: dict[str, dict[str, Shards]]  # by name, "" for one that is no mixture; splits by name

    @property
    def name(self) -> str:
        """Of the task; empty in a run of one objective."""
        return self.task.name

    @property
    def objective(self) -> Any:
        """Of the task."""
        return self.task.objective

    @property
    def batch_rows(self) -> int:
        """Rows of it in a global batch."""
        return self.task.rows


@dataclasses.dataclass(frozen=True)
class StreamRows:
    """The packed rows of a stream in one stage and split; held-out rows are those of one source."""

    stream: Stream
    rows: AnyRows
    source: str = ""
    stage: int = 0
    excluded: pipeline.Spans = ()  # batches of the stage that are passed over

    @property
    def label(self) -> str:
        """What the digests of its rows are of."""
        return " of ".join(filter(None, (f"stage {self.stage}", self.stream.name)))

    def numbers(self, batch: int) -> range:
        """The rows of it in batch `batch` of the stage."""
        return pipeline.row_numbers(batch, self.stream.batch_rows, self.excluded)

    def fingerprint(self, what: str) -> dict[str, str]:
        """{what, with task and source: of everything that decides the rows}."""
        return {" of ".join(filter(None, (what, self.source, self.stream.name))): self.rows.fingerprint}


def tasks(run: Run) -> tuple[Task, ...]:
    """The tasks of a run. UserError for data that is none."""
    found = multi_task.of(run.objective, run.batch_size).tasks
    for i, task in enumerate(found):
        if task.data is not None and not isinstance(task.data, Data):
            raise UserError(
                f"config.objective.tasks[{i}].data={task.data!r}: allowed is a jaxlm.config.Data, or None."
            )
    return found


def check_rows(run: Run, mesh: jax.sharding.Mesh) -> None:
    """UserError unless the rows of every task divide over the mesh and the micro-batches."""
    for i, task in enumerate(tasks(run)):
        name = f"config.objective.tasks[{i}].rows" if task.name else "config.batch_size"
        meshes.check_batch_size(task.rows, mesh, name, accumulate=run.accumulate)


def stream_seed(run: Run, task: Task) -> int:
    """Two tasks over one corpus must not read the same rows in the same order, nor draw the same masks."""
    return draws.derived_seed(run.seed, f"task {task.name}") if task.name else run.seed


class Feeds:
    """One feed per stream, in step: iterates over what the train step takes. A context manager.

    `taken` gets the sum of the digests of every batch that next() gives away (see run.attested).
    """

    def __init__(self, feeds: Sequence[tuple[Stream, Feed]], taken: Callable[[int], None]) -> None:
        self._feeds, self._taken = list(feeds), taken
        self._ahead: Batches | None = None
        self.wait_s = 0.0  # time that the last next() waited for data

    def peek(self) -> Batches:
        """What the following next() gives, for which that one does not wait."""
        self._ahead = self._read()
        return self._ahead

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batches:
        if self._ahead is None:
            batch = self._read()
            self.wait_s = sum(feed.wait_s for _, feed in self._feeds)
        else:
            batch, self._ahead, self.wait_s = self._ahead, None, 0.0
        self._taken(sum(feed.read for _, feed in self._feeds))
        return batch

    def _read(self) -> Batches:
        return {stream.name: next(feed) for stream, feed in self._feeds}

    def close(self) -> None:
        """Ends the threads and closes the sources."""
        for _, feed in self._feeds:
            feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
