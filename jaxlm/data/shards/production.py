"""Parts of a corpus, made in parallel. In: a source of documents. Out: the record of every part, made now or before.

The steps of a corpus run over its documents, which are gathered into parts in their order, whatever the number of
processes; parts that an earlier run finished are not made again. Memory: one part a process, one waiting, and one being
gathered for each split.
"""

import collections
import concurrent.futures
import contextlib
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from jaxlm.data import workers
from jaxlm.data.corpus import corpus, steps
from jaxlm.data.corpus.record import Record
from jaxlm.data.shards import parts, progress
from jaxlm.errors import UserError

CHUNK_CHARACTERS = 2**20  # of documents that a worker runs the steps over at once


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
    job: parts.Job,
    documents: Iterator[Record],
    text: corpus.Corpus,
    size: int,
    done: steps.Steps,
    processes: int,
    lines: progress.Progress,
) -> Iterator[dict[str, Any]]:
    """Records of all parts of `size` characters, in any order; those of an earlier run are not made again.

    `done`: the steps, which count what they do.
    """
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(workers.pool(processes)) if processes > 1 else None
        running: set[concurrent.futures.Future] = set()
        if pool is None or not done.portable:
            left = done.run(documents)
        else:
            left = _stepped(documents, done, pool, processes)
        for part in gather(left, text, size):
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
                    ended, running = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
                    yield from (_made(_result(future), lines) for future in ended)
        for future in concurrent.futures.as_completed(running):
            yield _made(_result(future), lines)


def _stepped(
    documents: Iterator[Record], done: steps.Steps, pool: concurrent.futures.Executor, ahead: int
) -> Iterator[Record]:
    """What the steps leave of the documents, in order; workers run them over chunks, `ahead` of which wait."""
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    for chunk in parts.batches(documents, CHUNK_CHARACTERS):
        waiting.append(pool.submit(steps.over, done.steps, chunk))
        if len(waiting) > ahead:
            yield from done.taken(_result(waiting.popleft()))
    while waiting:
        yield from done.taken(_result(waiting.popleft()))


def _result(future: concurrent.futures.Future) -> Any:
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
