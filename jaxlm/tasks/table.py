"""A fine-tuned model on a table with the right answers. In: a task, a file. Out: metrics, with intervals.

The columns are those of the run's own data. UserError for a label that the run does not know, with file and line.
"""

from collections.abc import Iterator

from jaxlm.data.corpus import readers
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError, did_you_mean
from jaxlm.tasks.task import Measured, Task


def measured(task: Task, path: str) -> Measured:
    """All rows of `path` (CSV, TSV, JSONL, Parquet, CoNLL), answered and compared."""
    found = of_records(task, _records(path, task))
    if not found.items:
        raise UserError(f"{path}: there is no row in it.")
    return found


def of_records(task: Task, records: Iterator[Record]) -> Measured:
    """All of them, answered and compared."""
    kept, answers, asked = [], [], []
    for part in readers.together(records):
        items = [task.item(record) for record in part]
        said = task.ask(items)
        kept += part
        asked += said
        answers += task.answer(items, said)
    return task.measure(kept, answers, asked) if kept else Measured(items=0, metrics={})


def _records(path: str, task: Task) -> Iterator[Record]:
    wanted = task.wanted()
    for where, number, row in readers.rows(path, wanted, whole=True):
        if missing := [name for name in wanted.names if name not in row]:
            raise UserError(
                f'{where}: no field "{missing[0]}"; the run reads {", ".join(wanted.names)}.'
                f"{did_you_mean(missing[0], row)} Fields there: {', '.join(map(str, row)) or 'none'}. Rename the field."
            )
        yield readers.of(row, wanted, where, number)
