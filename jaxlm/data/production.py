"""Parts of a corpus, made in parallel. In: a source of documents. Out: the record of every part, made now or before.

Documents are gathered into parts in their order, whatever the number of processes; parts that an earlier run finished
are not made again. Memory: one part a process, one waiting, and one being gathered for each split.
"""

import concurrent.futures
import contextlib
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from jaxlm.data import corpus, parts, progress, workers
from jaxlm.data.record import Record
from jaxlm.errors import UserError


def gather(documents: Iterator[Record], text: corpus.Corpus, size: int) -> Iterator[parts.Part]:
    """The documents of each split in order, gathered until a part holds `size` characters."""
    found: dict[str, list[Record]] = {split: [] for split in corpus.SPLITS}
    held = dict.fromkeys(corpus.SPLITS, 0)
    numbers = dict.fromkeys(corpus.SPLITS, 0)
    for record in documents:
        split = text.split(record)
        found[split].append(record)
        held[split] += record.characters
        if held[split] >= size:
            yield parts.Part(split=split, number=numbers[split], records=found[split])
            found[split], held[split] = [], 0
            numbers[split] += 1
    for split in corpus.SPLITS:
        if found[split]:
            yield parts.Part(split=split, number=numbers[split], records=found[split])


def records(
    job: parts.Job, todo: Iterator[parts.Part], processes: int, lines: progress.Progress
) -> Iterator[dict[str, Any]]:
    """Records of all parts, in any order; those of an earlier run are not made again."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(workers.pool(processes)) if processes > 1 else None
        running: set[concurrent.futures.Future] = set()
        for part in todo:
            record = parts.finished(job.directory, part.name)
            if record is None and parts.begun(job.directory, part.name):
                lines.log(f"{job.directory}: part {part.name} is damaged, is made again")
            if record is not None:
                lines.add(record, made=False)
                yield record
            elif pool is None:
                yield _made(parts.write(job, part), lines)
            else:
                running.add(pool.submit(parts.write, job, part))
                if len(running) > processes:  # one waiting beside those at work bounds memory
                    done, running = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
                    yield from (_made(_result(future), lines) for future in done)
        for future in concurrent.futures.as_completed(running):
            yield _made(_result(future), lines)


def _result(future: concurrent.futures.Future) -> dict[str, Any]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process of the preparation was killed, most likely for want of memory. Run again with fewer "
            "processes (--processes=1); finished parts are kept."
        ) from error


def _made(record: dict[str, Any], lines: progress.Progress) -> dict[str, Any]:
    lines.add(record, made=True)
    return record
