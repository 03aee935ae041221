"""A task's own metrics while it is trained: F1 of entities, exact match, ROUGE. In: held-out records. Out: `eval/...`.

    evaluators=(TaskMetrics(rows=500),)        # and checkpoint.keep.best_metric="eval/f1"

Records are read again as texts, and answered as `jaxlm predict` answers them.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxlm.data.corpus import corpus, steps
from jaxlm.data.corpus.record import Record
from jaxlm.data.places import default_cache, expanded
from jaxlm.errors import UserError
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
        records = list(itertools.islice(_records(ready), self.rows or None))
        return Measuring(ready, records)


class Measuring:
    """An evaluator that was started."""

    def __init__(self, ready: Ready, records: list[Record]) -> None:
        self._ready, self._records = ready, records
        # UserError before anything is trained.
        task = self._task(ready.program.state.params)
        task.wanted()
        self.names = [f"eval/{name}" for name in task.metrics]

    def __call__(self, weights: Any) -> Mapping[str, float]:
        """{"eval/f1": ...} of these trained parameters."""
        found = table.of_records(self._task(weights), iter(self._records))
        return {f"eval/{name}": one.value for name, one in found.metrics.items()}

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
    cache = expanded(data.cache) if data.cache else default_cache()
    for one in data.corpora().values():
        if corpus.is_prepared(one.source):
            raise UserError(
                f"{one.source} is a folder of prepared shards, and TaskMetrics reads texts. Fix: "
                "--config.evaluators=() ."
            )
        split = ready.split if one.holds_out(ready.split) else "train"
        records = steps.Steps(one.steps).run(corpus.open_source(one, cache).records())
        yield from (record for record in records if one.split(record) == split)
