"""A task's own metrics while it is trained: F1 of entities, exact match, ROUGE. In: held-out records. Out: `eval/...`.

    evaluators=(TaskMetrics(rows=500),)        # and checkpoint.keep.best_metric="eval/f1"

Records are read again as texts, and answered as `jaxlm predict` answers them.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxlm.data.corpus import corpus
from jaxlm.data.corpus.record import Record
from jaxlm.data.places import cache_folder
from jaxlm.errors import UserError
from jaxlm.evaluate.classes import Sampled
from jaxlm.evaluate.evaluator import Ready
from jaxlm.infer.predict import Predictor
from jaxlm.tasks import of, table
from jaxlm.tasks.task import Trained


@dataclasses.dataclass(kw_only=True)
class TaskMetrics:
    """Of the run's task on the first held-out records; without intervals, which `jaxlm evaluate --data` gives."""

    every_steps: int = 0  # steps between evaluations; 0: at every evaluation of the run
    rows: int = 0  # records at most; 0: all

    def start(self, ready: Ready) -> "Measuring":
        """Reads the records. UserError for a run without a task, or on several hosts."""
        if jax.process_count() > 1:
            raise UserError(
                "TaskMetrics answers on one host, and there are several. Fix: --config.evaluators=() ."
            )
        return Measuring(ready, itertools.islice(_records(ready), self.rows or None))


class Measuring:
    """An evaluator that was started."""

    def __init__(self, ready: Ready, records: Iterator[Record]) -> None:
        self._ready = ready
        task = self._task(ready.program.state.params)  # UserError before anything is trained
        read, wanted = [one.field for one in task.data.columns], task.wanted()
        places = [read.index(one.field) for one in wanted.values]  # a corpus may have further columns
        chosen = lambda record: tuple(record.values[i] for i in places)
        self._records = [dataclasses.replace(one, values=chosen(one)) for one in records]
        self.names = [f"eval/{name}" for name in task.metrics]

    def __call__(self, weights: Any) -> Mapping[str, float]:
        """{"eval/f1": ...} of these trained parameters."""
        found = table.answered(self._task(weights), self._records).measured().metrics
        values = found.values_of_all if isinstance(found, Sampled) else {}  # without a record there are none
        return {f"eval/{name}": value for name, value in values.items()}

    def _task(self, weights: Any) -> Trained:
        program = self._ready.program
        predictor = Predictor(
            model=program.model,
            params=program.view.merge(weights, self._ready.frozen),
            mesh=program.mesh,
            tokenizer=self._ready.text.tokenizer,
            row_length=self._ready.stage.length,
        )
        if (task := of.of_run(predictor, program.run)) is None:
            raise UserError(
                f"TaskMetrics: a run with {type(program.run.objective).__name__} has no task with right answers. Fix: "
                "--config.evaluators=() ."
            )
        return task


def _records(ready: Ready) -> Iterator[Record]:
    data = ready.program.run.data
    cache = cache_folder(data.cache)
    for one in data.corpora().values():
        if corpus.is_prepared(one.source):
            raise UserError(
                f"{one.source} is a folder of prepared shards, and TaskMetrics reads texts. Fix: "
                "--config.evaluators=() ."
            )
        split = ready.split if one.holds_out(ready.split) else "train"
        yield from (record for record in corpus.records(one, cache) if one.split(record) == split)
