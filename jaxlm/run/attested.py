"""The stream a run has consumed, kept as a number in its checkpoints. In: the digests of batches. Out: JSON; a replay.

Only batches that a step took count, not those read ahead. Each host adds up the rows it holds first; the sums meet when
a checkpoint is saved. What is saved says which batches were read, so that the same number can be computed again from
the shards, without devices, hosts or model.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxlm.config import Run, excluded
from jaxlm.data import attest, pipeline, workers
from jaxlm.data.rows.mixture import AnyRows
from jaxlm.run import inputs
from jaxlm.run.inputs import Text
from jaxlm.run.streams import StreamRows
from jaxlm.runtime import distributed

READ_AT_ONCE = 256  # rows


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Steps start + 1 to end, which read batches start - first to end - 1 - first of a stage."""

    stage: int
    first: int  # steps before the stage
    start: int
    end: int


class Attested:
    """Follows the stream of one start of a run, from its checkpoint on."""

    def __init__(self, meta: Mapping[str, Any] | None, start: int) -> None:
        """`meta`: of the checkpoint. One without a stream, or of another version: attested from `start` on."""
        saved = (meta or {}).get("stream", {})
        if saved.get("version") != attest.VERSION:
            saved = {"since": start, "hash": "0", "read": []}
        self.since: int = saved["since"]
        self._before, self._mine = int(saved["hash"], 16), 0
        self._read = [Stretch(*one) for one in saved["read"]]

    def taking(self, stage: int, first: int, start: int) -> Callable[[int], None]:
        """What a stage that began after step `first` calls with the digest of every batch, from step `start` + 1 on."""
        last = self._read[-1] if self._read else None
        if last is None or (last.stage, last.first, last.end) != (stage, first, start):
            self._read.append(Stretch(stage, first, start, start))

        def taken(digest: int) -> None:
            self._mine += digest
            self._read[-1] = dataclasses.replace(self._read[-1], end=self._read[-1].end + 1)

        return taken

    def state(self) -> dict[str, Any]:
        """JSON for the checkpoint; all hosts ask together. `hash`: 64 hex digits, of the rows after step `since`."""
        value = (self._before + distributed.total(self._mine % 2**attest.BITS)) % 2**attest.BITS
        read = [dataclasses.astuple(stretch) for stretch in self._read]
        return {"version": attest.VERSION, "since": self.since, "hash": f"{value:064x}", "read": read}


def rows_of(run: Run, text: Text, stretch: Stretch) -> tuple[StreamRows, ...]:
    """The rows of every task as they were in a stretch: `run.steps` may have moved the stages since."""
    passed = excluded.batches(run.exclude, stretch.first)
    made = inputs.rows(run, text, run.stages[stretch.stage], "train", number=stretch.stage)
    return tuple(dataclasses.replace(one, excluded=passed) for one in made)


def replayed(run: Run, text: Text, read: Sequence[Stretch], processes: int = 1) -> tuple[str, int]:
    """(hash, rows) of these stretches, read from the shards again; `processes` share them, as hosts would."""
    shares = []
    for stretch in read:
        batches = range(stretch.start - stretch.first, stretch.end - stretch.first)
        size = max(-(-len(batches) // processes), 1)
        for one in rows_of(run, text, stretch):
            known = (one.rows, one.label, one.stream.batch_rows, one.excluded)
            shares += [(*known, batches[at : at + size]) for at in range(0, len(batches), size)]
    if processes == 1:
        found = [_added(*share) for share in shares]
    else:
        with workers.pool(processes) as pool:
            found = list(pool.map(_added, *zip(*shares, strict=True)))
    return f"{sum(value for value, _ in found) % 2**attest.BITS:064x}", sum(rows for _, rows in found)


def _added(
    rows: AnyRows, label: str, batch_rows: int, excluded: pipeline.Spans, batches: range
) -> tuple[int, int]:
    """The sum of the digests of some batches of a task, and how many rows they are. Runs in a worker."""
    value = count = 0
    together = max(READ_AT_ONCE // batch_rows, 1)
    for at in range(0, len(batches), together):
        some = batches[at : at + together]
        numbers = [i for batch in some for i in pipeline.row_numbers(batch, batch_rows, excluded)]
        value += attest.total(attest.digests(rows.read(numbers), label, numbers))
        count += len(numbers)
    return value, count
