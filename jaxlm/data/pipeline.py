"""From shards to host batches. In: rows, an objective, which batches and which of their rows. Out: numpy `Batch`es.

Batch s of a run is rows s * B to (s + 1) * B - 1, whoever reads it: a host builds only the rows its devices hold, and
starts at any step at the same cost. Reading happens in threads, or in worker processes that change nothing but speed.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from jaxlm.batch import Batch, Row, Vocabulary, stacked
from jaxlm.cached import Cache
from jaxlm.data import attest, draws
from jaxlm.data.rows import packing
from jaxlm.data.rows.items import Asked, Shards
from jaxlm.data.rows.mixture import AnyRows
from jaxlm.data.rows.rows import Rows

# Measured on 2 cores: 2 threads and a buffer of 8 read 10.5 M tokens/s, the default 16 threads 4.8 M.
THREADS, BUFFER = 2, 8
Spans = Sequence[tuple[int, int]]  # [first, end) of batches, each as the spans before it have numbered them


def make_rows(
    objective: Any,
    shards: Shards,
    vocabulary: Vocabulary,
    *,
    row_length: int,
    method: packing.Method,
    seed: int,
    cache: Cache | None,
    train: bool,
) -> Rows:
    """The packed rows of a split, as the objective wants them: endless and shuffled to train, else one fixed epoch.

    `row_length` is that of the rows after `prepare`; the plan packs `objective.plan_length(row_length)` tokens.
    """
    length = objective.plan_length(row_length)
    most = objective.max_items(length)
    asked = Asked(length=length, seed=seed, cache=cache, train=train)
    items = objective.items(shards, vocabulary, asked)
    plan = packing.plan(items, row_length=length, method=method, max_items=most, seed=seed, cache=cache)
    return Rows(items, plan, vocabulary, seed=seed, shuffle=train)


def host_batches(
    rows: AnyRows,
    objective: Any,
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    host_rows: Sequence[int],
    start: int,
    seed: int,
    train: bool,
    limit: int = 0,
    workers: int = 0,
    label: str = "",
    excluded: Spans = (),
) -> grain.DatasetIterator:
    """Iterates over batches `start`, `start` + 1, ...; close() it when done, or its workers live on.

    `host_rows` are the rows of each global batch that this host holds, as rising offsets in [0, batch_size): see
    feed.host_rows. Training never ends. Evaluation reads every row once (the first `limit`, unless 0), with masks that
    depend on (seed, row) only, and fills the last batch with empty rows.

    With a `label` batches carry the digests of their rows (see attest). Batches `excluded` are passed over.
    """
    fixed = (objective, vocabulary, batch_size, np.unique(host_rows), seed, train, limit)
    make = _MakeBatch(rows, *fixed, label, tuple(excluded))
    if not train or workers <= 0:
        workers = 0  # an evaluation is over before processes have started
    steps = grain.MapDataset.range(start, max(make.steps(), start)).map(make)
    # Worker processes read one batch at a time each: threads inside them would only compete.
    options = grain.ReadOptions(
        num_threads=1 if workers else THREADS, prefetch_buffer_size=2 if workers else BUFFER
    )
    batches = steps.to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain hands its flags on to the workers
            flags.FLAGS.mark_as_parsed()
        batches = batches.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        )
    return iter(batches)


def row_numbers(step: int, batch_size: int, excluded: Spans) -> range:
    """The rows of batch `step`. A span excluded moves what follows it up; the last span was chosen last."""
    for first, end in reversed(excluded):
        step += (end - first) * (step >= first)
    return range(step * batch_size, (step + 1) * batch_size)


def evaluation_steps(rows: AnyRows, batch_size: int, limit: int = 0) -> int:
    """Batches that one evaluation takes."""
    return -(-_evaluated(rows, limit) // batch_size)


def _rounded(most: int) -> int:
    """A power of two up to 8, then multiples of 8: a step is compiled once for sources whose fullest rows differ a
    little, and a kernel works for few slots that are never filled (cuDNN: 0.6 ms a step for each, on an H200)."""
    return 1 << (most - 1).bit_length() if most <= 8 else -(-most // 8) * 8


@dataclasses.dataclass(frozen=True)
class _MakeBatch:
    """step -> the host's part of that batch; picklable, without state."""

    rows: AnyRows
    objective: Any
    vocabulary: Vocabulary
    batch_size: int
    host_rows: np.ndarray
    seed: int
    train: bool
    limit: int
    label: str
    excluded: Spans

    def steps(self) -> int:
        """End of the stream."""
        return sys.maxsize if self.train else evaluation_steps(self.rows, self.batch_size, self.limit)

    def __call__(self, step: int) -> Batch:
        first = row_numbers(int(step), self.batch_size, self.excluded).start
        numbers = [first + offset for offset in self.host_rows.tolist()]
        real = numbers if self.train else [i for i in numbers if i < _evaluated(self.rows, self.limit)]
        rows = [*self.rows.read(real), *[self.rows.empty()] * (len(numbers) - len(real))]
        batch = stacked([self._prepare(row, i) for row, i in zip(rows, numbers, strict=True)])
        most = _rounded(
            batch.most_segments or len(rows[0].first_C)
        )  # one segment per item, unless it says otherwise
        digests = attest.digests(rows, self.label, numbers) if self.label else None
        return dataclasses.replace(batch, most_segments=most, digests_B=digests)

    def _prepare(self, row: Row, i: int) -> Batch:
        rng = draws.generator(self.seed, "train draws" if self.train else "evaluation draws", i)
        return self.objective.prepare(row, self.vocabulary, rng, train=self.train)


def _evaluated(rows: AnyRows, limit: int) -> int:
    return min(limit, len(rows)) if limit else len(rows)
