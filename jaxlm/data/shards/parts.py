"""One part of a preparation: some documents of a split, tokenised into one ArrayRecord file. In: texts. Out: a record.

A part is finished when its record (JSON, written last) and its files are there; files are written under another name
and renamed, so a process that is killed leaves nothing half done. Runs in worker processes, which do not import JAX.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from jaxlm import cached
from jaxlm.data import tokenizer
from jaxlm.data.corpus import files, spans
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record, Span, Value
from jaxlm.data.shards import encoding
from jaxlm.data.shards.index import FORMAT, digest
from jaxlm.data.shards.known import DIGESTS, ORIGINS, of_tokens

FOLDER = "parts"
BATCH_CHARACTERS = 2**20  # encoded at once: bounds memory, and enough for the library's threads
Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What every part of one preparation shares; small, sent to workers with each part."""

    directory: str
    sentences: bool
    wanted: Wanted  # several texts: each is a sentence of its own; else sentences are found by rule
    dtype: str  # of tokens: uint16 or uint32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Documents number * (documents a part) and on of a split."""

    split: str
    number: int
    records: list[Record]

    @property
    def name(self) -> str:
        return part_name(self.split, self.number)


def part_name(split: str, number: int) -> str:
    """'train-00003'."""
    return f"{split}-{number:05d}"


def finished(directory: str | os.PathLike[str], name: str) -> dict[str, Any] | None:
    """The record of a part whose files are all there as written (the shard by its size), else None."""
    folder = Path(directory) / FOLDER
    try:
        record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        whole = record.pop("seal") == digest(record) and record["format"] == FORMAT
        whole = whole and files.sha256(folder / f"{name}.npz") == record["arrays_sha256"]
        return record if whole and shard_file(directory, record) is not None else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def begun(directory: str | os.PathLike[str], name: str) -> bool:
    """Whether a part was finished once: its record, the last of its files, is there."""
    return (Path(directory) / FOLDER / f"{name}.json").exists()


def shard_file(directory: str | os.PathLike[str], record: dict[str, Any]) -> Path | None:
    """Where the part's ArrayRecord file is, before or after it got its final name; None when it has another size."""
    name = part_name(record["split"], record["number"])
    places = [
        Path(directory) / FOLDER / f"{name}.arrayrecord",
        *Path(directory).glob(f"{name}-of-*.arrayrecord"),
    ]
    return next(
        (place for place in places if place.is_file() and place.stat().st_size == record["bytes"]), None
    )


def load_array(directory: str | os.PathLike[str], name: str, array: str) -> np.ndarray | None:
    """'lengths': tokens a document; 'fields': of each text; 'sentences': of each, 'counts' of them a document.

    `known.DIGESTS`, `known.ORIGINS`; 'column_0', ...: the values of the columns. None: the part has no such array.
    """
    with np.load(Path(directory) / FOLDER / f"{name}.npz") as arrays:
        return arrays.get(array)


def write(job: Job, part: Part) -> dict[str, Any]:
    """Tokenise a part into its files; its record."""
    folder = Path(job.directory) / FOLDER
    temporary = folder / f"{part.name}.arrayrecord.tmp-{os.getpid()}"
    tally = _Tally(_loaded(job.directory).special("unk"))
    with _disk_errors(temporary):
        writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1")
    for record, ids, known in _encoded(job, part.records):
        if len(ids):  # a document of nothing but control characters
            raw = ids.astype(job.dtype).tobytes()
            with _disk_errors(temporary):
                writer.write(raw)
            tally.add(record, ids, raw, known)
    with _disk_errors(temporary):
        writer.close()
    commit(temporary, folder / f"{part.name}.arrayrecord")
    return _finish(folder, part, tally)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """The library's RuntimeError, of a full disk for one, as the OSError that it is."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


class _Tally:
    """Counts and arrays of the documents written so far."""

    def __init__(self, unknown: int | None):
        self.unknown = unknown
        self.counts = dict.fromkeys(("documents", "tokens", "characters", "text_bytes", "unknown_tokens"), 0)
        self.content = hashlib.sha256()
        self.lengths: list[int] = []
        self.digests: list[int] = []
        self.origins: list[tuple[int, int]] = []
        self.known: dict[str, list[np.ndarray]] = {}
        # Column -> name -> its number in this part, and where it was met first.
        self.labels: dict[str, dict[str, tuple[int, str]]] = {}

    def add(self, record: Record, ids: np.ndarray, raw: bytes, known: Arrays) -> None:
        self.counts["documents"] += 1
        self.counts["tokens"] += len(ids)
        self.counts["characters"] += record.characters
        self.counts["text_bytes"] += record.text_bytes
        if self.unknown is not None:
            self.counts["unknown_tokens"] += int((ids == self.unknown).sum())
        self.content.update(len(ids).to_bytes(8, "little") + raw)
        self.lengths.append(len(ids))
        self.digests.append(of_tokens(ids))
        self.origins.append(record.origin)
        for name, values in known.items():
            self.content.update(values.tobytes())
            if not name.startswith("column_"):  # those have no numbers yet
                self.known.setdefault(name, []).append(values)
        for i, value in enumerate(record.values):
            self.content.update(f"{i}:{value!r}\n".encode())
            values = (
                np.array([value]) if isinstance(value, float) else self._numbered(i, value, record, known)
            )
            self.known.setdefault(f"column_{i}", []).append(values)

    def _numbered(self, i: int, value: Value, record: Record, known: Arrays) -> np.ndarray:
        """The number of the label of column i, those of several, or the spans of all tokens with those of theirs."""
        met = self.labels.setdefault(str(i), {})
        number = lambda name: met.setdefault(name, (len(met), record.where))[0]
        if isinstance(value, tuple):
            names = [
                name for *_, name in cast(tuple[Span, ...], value)
            ]  # of a conversation too: see encoding
            return spans.numbered(known[f"column_{i}"], np.array([number(name) for name in names], np.int32))
        if isinstance(value, list):
            self.known.setdefault(f"column_{i}_counts", []).append(np.array([len(value)]))
            return np.array([number(name) for name in value], np.int64)
        return np.array([number(value)])

    def arrays(self) -> Arrays:
        arrays: Arrays = {"lengths": np.array(self.lengths, np.uint32)}
        arrays[DIGESTS] = np.array(self.digests, np.uint64)
        arrays[ORIGINS] = np.array(self.origins, np.uint32).reshape(-1)
        arrays |= {name: np.concatenate(values) for name, values in self.known.items()}
        if "sentences" in arrays:
            arrays["counts"] = np.array([len(lengths) for lengths in self.known["sentences"]], np.int64)
        return arrays


def _finish(folder: Path, part: Part, tally: _Tally) -> dict[str, Any]:
    """Write the arrays, then the record."""
    arrays = tally.arrays()
    temporary = folder / f"{part.name}.npz.tmp-{os.getpid()}"
    with open(temporary, "wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    commit(temporary, folder / f"{part.name}.npz")
    shard = folder / f"{part.name}.arrayrecord"
    record = {
        "format": FORMAT,
        "split": part.split,
        "number": part.number,
        **tally.counts,
        "read": len(part.records),
        "sentences": int(arrays["counts"].sum()) if "counts" in arrays else 0,
        "labels": {i: {name: where for name, (_, where) in met.items()} for i, met in tally.labels.items()},
        "longest_sentence": int(arrays["sentences"].max()) if "sentences" in arrays else 0,
        "bytes": shard.stat().st_size,
        "sha256": files.sha256(shard),
        "content": tally.content.hexdigest(),
        "arrays_sha256": files.sha256(folder / f"{part.name}.npz"),
    }
    write_json(folder / f"{part.name}.json", {**record, "seal": digest(record)})
    return record


def _encoded(job: Job, records: Sequence[Record]) -> Iterator[encoding.Encoded]:
    tokens = _loaded(job.directory)
    for batch in batches(records, BATCH_CHARACTERS):
        yield from encoding.encoded(tokens, batch, job.wanted, job.sentences)


def batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    """The records in order, gathered until a batch holds `size` characters."""
    batch: list[Record] = []
    held = 0
    for record in records:
        batch.append(record)
        held += record.characters
        if held >= size:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


@functools.lru_cache(maxsize=2)
def _loaded(directory: str) -> tokenizer.Tokenizer:
    return tokenizer.load(directory)


def commit(temporary: Path, path: Path) -> None:
    """Make a written file durable, then give it its name, and make that durable too."""
    cached.sync(temporary)
    os.replace(temporary, path)
    cached.sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON under another name and rename it."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    commit(temporary, path)
