"""What a run has seen, document by document. In: its folder, its shards. Out: documents of a step; those that changed.

A run folder keeps a digest and the origin of every training document, 16 bytes each, from the day it began: by them a
document is named whose tokens are others today, whether its file was edited or a shard was.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from jaxlm.checkpoint.opened import find_run
from jaxlm.config import Run
from jaxlm.config.folder import RunFolder, run_of
from jaxlm.data import attest
from jaxlm.data.shards import known
from jaxlm.data.shards.known import Known
from jaxlm.data.shards.shards import Shards
from jaxlm.data.tokenizer import Pretrained
from jaxlm.errors import UserError
from jaxlm.run.attested import Stretch, rows_of
from jaxlm.run.inputs import Text
from jaxlm.run.streams import StreamRows

READ_AT_ONCE = 1024  # documents
UNKNOWN = "(file unknown: prepared by an earlier version; delete the folder of shards and prepare again)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint, for those who ask what its run has read."""

    step: int
    folder: RunFolder
    run: Run  # with the tokenizer that stands in the run folder, so that nothing is trained
    since: int  # the step after which rows are attested
    hash: str
    read: tuple[Stretch, ...]
    fingerprints: dict[str, str]


def saved(path: str, step: int | None) -> Saved:
    """The checkpoint of `step`, or the newest. UserError when there is none, or it does not attest its stream."""
    checkpoints, newest = find_run(path)
    meta = checkpoints.meta(newest if step is None else step)
    where, found = f"step {newest if step is None else step} of {path}", meta.get("stream", {})
    folder = RunFolder(checkpoints.directory.parent)
    run = run_of(meta.get("config"), where, folder)
    if found.get("version") != attest.VERSION:
        raise UserError(
            f"{where}: this checkpoint does not attest what was read (it is of another version of jaxlm). Checkpoints "
            "of its continuation will, from there on."
        )
    return Saved(
        step=newest if step is None else step,
        folder=folder,
        run=dataclasses.replace(run, tokenizer=Pretrained(path=str(folder.tokenizer))),
        since=found["since"],
        hash=found["hash"],
        read=tuple(Stretch(*one) for one in found["read"]),
        fingerprints=meta["fingerprints"],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """What of a document stands in a row."""

    item: int  # number of the item in the row, from 1
    document: int  # its number in the training split
    where: str  # file and line or row
    tokens: tuple[int, int]  # [first, end)
    of: int  # tokens of the whole document
    text: str  # of these tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeenRow:
    """A row of a step."""

    task: str
    source: str  # of a mixture
    row: int
    parts: tuple[Part, ...]


def rows_of_step(run: Run, text: Text, stretch: Stretch, step: int, wanted: slice) -> Iterator[SeenRow]:
    """The `wanted` rows of every task in a step, which lies in `stretch`."""
    known_of = functools.cache(Shards.known)  # reads the index
    for one in rows_of(run, text, stretch):
        for number in one.numbers(step - 1 - stretch.first)[wanted]:
            yield _row(text, one, number, known_of)


def _row(text: Text, one: StreamRows, number: int, known_of: Callable[[Shards], Known | None]) -> SeenRow:
    source, items = one.rows.placed(number)
    shards = one.stream.sources[source]["train"]
    found = known_of(shards)
    parts = []
    for item, places in enumerate(items, 1):
        for document, start, length in places:
            tokens = shards[document]
            parts.append(
                Part(
                    item=item,
                    document=document,
                    where=UNKNOWN if found is None else found.where(document),
                    tokens=(start, start + length),
                    of=len(tokens),
                    text=text.tokenizer.decode(tokens[start : start + length].tolist()),
                )
            )
    return SeenRow(task=one.stream.name, source=source, row=number, parts=tuple(parts))


def keep(text: Text, folder: pathlib.Path) -> None:
    """Writes what is known of the training documents now, a file a source; nothing of shards that know nothing."""
    written = set()
    for name, shards in _training(text):
        found = None if shards.fingerprint in written else shards.known()
        written.add(shards.fingerprint)
        if found is not None:
            folder.mkdir(exist_ok=True)
            found.write(folder / name)


def changes(text: Text, folder: pathlib.Path) -> tuple[bool, list[str]]:
    """(Whether there is anything to compare with, a line for every training document that is not what it was)."""
    kept = [(folder / name, shards) for name, shards in _training(text) if (folder / name).is_file()]
    return bool(kept), [line for path, shards in kept for line in _changed(Known.read(path), shards, text)]


def _training(text: Text) -> Iterator[tuple[str, Shards]]:
    for stream in text.streams:
        for source, splits in stream.sources.items():
            yield ".".join(filter(None, ("documents", stream.name, source, "npz"))), splits["train"]


def _changed(before: Known, shards: Shards, text: Text) -> Iterator[str]:
    now = np.empty(len(shards), np.uint64)
    for at in range(0, len(shards), READ_AT_ONCE):
        some = range(at, min(at + READ_AT_ONCE, len(shards)))
        now[at : some.stop] = [known.of_tokens(tokens) for tokens in shards.__getitems__(some)]
    gone = np.flatnonzero(~np.isin(before.digests, now)).tolist()
    new = np.flatnonzero(~np.isin(now, before.digests)).tolist()
    origins = shards.known()
    where = {k: UNKNOWN if origins is None else origins.where(k) for k in new}
    by_place = {place: k for k, place in where.items()}
    for k in gone:
        place = before.where(k)
        if (other := by_place.pop(place, None)) is not None:
            yield f"{place}: changed; it says now {_begin(text, shards, other)}"
        else:
            yield f"{place}: gone from the training documents: removed, or changed and held out now"
    for place, k in by_place.items():
        yield f"{place}: new: {_begin(text, shards, k)}"
    if not gone and not new and not np.array_equal(now, before.digests):
        yield f"{len(now):,} training documents, where there were {len(before.digests):,}: copies, or another order"


def _begin(text: Text, shards: Shards, k: int) -> str:
    return repr(text.tokenizer.decode(shards[k][:24].tolist()))
