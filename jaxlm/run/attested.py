"""The stream a run has consumed, kept as a number in its checkpoints. In: the digests of batches. Out: JSON; a replay.

Only batches that a step took count, not those read ahead. Each host adds up the rows it holds first; the sums meet when
a checkpoint is saved. What is saved says which batches were read, so that the same number can be computed again from
the shards, without devices, hosts or model.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxlm.config import Run
from jaxlm.data import attest
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


def rows_read(run: Run, text: Text, read: list[Stretch]) -> Iterator[tuple[StreamRows, range]]:
    """Every batch of these stretches: the rows of a task and which of them."""
    for stretch in read:
        of_stage = inputs.rows(run, text, run.stages[stretch.stage], "train", number=stretch.stage)
        for one in of_stage:
            for batch in range(stretch.start - stretch.first, stretch.end - stretch.first):
                yield one, one.numbers(batch)


def replayed(run: Run, text: Text, read: list[Stretch]) -> tuple[str, int]:
    """(hash, rows) of these stretches, read from the shards again."""
    value = rows = 0
    for one, numbers in rows_read(run, text, read):
        for at in range(0, len(numbers), READ_AT_ONCE):
            some = numbers[at : at + READ_AT_ONCE]
            value += attest.total(attest.digests(one.rows.read(some), one.label, some))
            rows += len(some)
    return f"{value % 2**attest.BITS:064x}", rows
