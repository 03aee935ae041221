"""Tokenised documents on disk, one split of a prepared folder, by random access. In: a folder with index.json.

Out: `Shards`: int32 tokens of document k, and lengths without reading any. Files are checked when opened (there, right
size, right tokenizer, on request or when small the SHA-256) and every record when read; whatever is wrong is a
UserError that names the file and the fix. Picklable, opened lazily, safe between threads.
"""

import dataclasses
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from jaxlm.data.corpus import files
from jaxlm.data.shards import index as indices
from jaxlm.data.shards.known import DIGESTS, ORIGINS, Known
from jaxlm.errors import UserError

# 'auto' hashes a split up to this size: a second or so. Beyond, ArrayRecord's own checksums catch bad chunks, and only
# the arrays are hashed, which have none.
HASHED_BYTES = 2**30

Check = Literal["auto", "size", "sha256"]


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a split lives: what survives pickling."""

    directory: str
    files: tuple[str, ...]
    documents: tuple[int, ...]  # per file
    arrays: dict[str, str]  # name -> file
    of_tokens: frozenset[str]  # the arrays with a value a token
    labels: dict[str, tuple[str, ...]]  # of label columns: their names
    dtype: str


class Shards:
    """One split. Documents are numbered in the order of the corpus; tokens are without special tokens.

    lengths: uint32 [documents], memory-mapped.   fingerprint: hex SHA-256 of tokens, lengths and tokenizer.
    """

    def __init__(self, place: _Place, fingerprint: str):
        self.fingerprint = fingerprint
        self._place = place
        self._open()

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[int, Any] = {}
        self._ends = np.cumsum(self._place.documents)
        self._arrays = {name: self._map(file) for name, file in self._place.arrays.items()}
        self.lengths: np.ndarray = self._arrays["lengths"]

    def _map(self, name: str) -> np.ndarray:
        path = os.path.join(self._place.directory, name)
        try:
            return np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: damaged: {error}. {_fix(path)}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self._place, "fingerprint": self.fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["place"], state["fingerprint"])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, k: int) -> np.ndarray:
        """int32 tokens of document k. IndexError outside 0 ≤ k < len; UserError when the record is damaged."""
        return self.__getitems__([k])[0]

    def __getitems__(self, ks: Sequence[int]) -> list[np.ndarray]:
        """Tokens of several documents, in the order asked: one read a file, far cheaper than one a document."""
        keys = np.asarray(ks, np.int64)
        if len(keys) and (keys.min() < 0 or keys.max() >= len(self)):
            raise IndexError(f"document {int(keys.min())}..{int(keys.max())} of {len(self)}")
        shard_of = np.searchsorted(self._ends, keys, side="right")
        found: list[np.ndarray] = [np.empty(0, np.int32)] * len(keys)
        for shard in dict.fromkeys(shard_of.tolist()):
            places = np.flatnonzero(shard_of == shard)
            first = int(self._ends[shard]) - self._place.documents[shard]
            for place, tokens in zip(places, self._read(shard, (keys[places] - first).tolist()), strict=True):
                if len(tokens) != self.lengths[keys[place]]:
                    raise self._damaged(
                        shard, f"document {keys[place]} has {len(tokens)} tokens, not as recorded"
                    )
                found[place] = tokens
        return found

    def _read(self, shard: int, records: list[int]) -> list[np.ndarray]:
        try:
            read = self._reader(shard).read(records)
        except (RuntimeError, ValueError, OSError) as error:
            raise self._damaged(shard, str(error)) from error
        return [np.frombuffer(record, self._place.dtype).astype(np.int32) for record in read]

    def _reader(self, shard: int) -> Any:
        with self._lock:
            if shard not in self._readers:
                path = os.path.join(self._place.directory, self._place.files[shard])
                reader = array_record_module.ArrayRecordReader(path, "readahead_buffer_size:0")
                if reader.num_records() != self._place.documents[shard]:
                    raise RuntimeError(f"{reader.num_records()} of {self._place.documents[shard]} documents")
                self._readers[shard] = reader
            return self._readers[shard]

    def _damaged(self, shard: int, what: str) -> UserError:
        path = os.path.join(self._place.directory, self._place.files[shard])
        return UserError(f"{path}: damaged: {what}. {_fix(path)}")

    def array(self, name: str) -> np.ndarray:
        """What is known of every document, memory-mapped: [documents], or [documents, n] of n values each.

        "fields": tokens of every text of a record; their sum is lengths[k]. The name of a column: its values; of a
        column of spans [tokens] of all documents, one after another (see data.corpus.spans).
        UserError for a name that is not there.
        """
        if name not in self._arrays or name in ("sentences", "sentence_offsets", "token_offsets"):
            how = "text_fields" if name == "fields" else "columns"
            raise UserError(
                f"shards {self._place.directory}: these documents have no {name}, which this objective needs. Fix: "
                f"name the fields of the records with --config.data.{how} (docs/data.md)."
            )
        values = self._arrays[name]
        one = len(values) == len(self) or name in self._place.of_tokens
        return values if one else values.reshape(len(self), -1)

    def value(self, name: str, k: int) -> np.ndarray:
        """Of document k what a column says: [], int32 or float32; of labels int32 [1, K], of spans [lengths[k]]."""
        values = self.array(name)
        if name not in self._place.of_tokens:
            return np.array(values[k]) if values.ndim == 1 else values[k][None].astype(np.int32)
        offsets = self._arrays["token_offsets"]
        return np.array(values[offsets[k] : offsets[k + 1]])

    def known(self) -> Known | None:
        """Of every document where it came from, and its digest; None of folders made before these were kept."""
        if DIGESTS not in self._arrays:
            return None
        names = indices.read(self._place.directory)["origins"]
        return Known(digests=self._arrays[DIGESTS], origins=self.array(ORIGINS), names=tuple(names))

    def labels(self, name: str) -> tuple[str, ...]:
        """The names of a column of labels or spans, in the order of their numbers; of one of numbers none."""
        self.array(name)  # UserError for a column that is not there
        return self._place.labels.get(name, ())

    def sentence_lengths(self, k: int) -> np.ndarray:
        """int32 tokens of every sentence of document k, or of every text of its record; their sum is lengths[k]."""
        if "fields" in self._arrays:
            return self.array("fields")[k].astype(np.int32)
        if "sentences" not in self._arrays:
            raise UserError(
                f"shards {self._place.directory}: made without sentences, which this objective needs. Prepare them "
                "again with sentences (`jaxlm data --sentences`)."
            )
        offsets = self._arrays["sentence_offsets"]
        return self._arrays["sentences"][offsets[k] : offsets[k + 1]].astype(np.int32)


def open_shards(
    directory: str | os.PathLike[str],
    split: str,
    *,
    tokenizer_fingerprint: str | None,
    check: Check = "auto",
) -> Shards:
    """Open and check one split.

    tokenizer_fingerprint: of the tokenizer in use, compared with the one the shards were made with; None skips that.
    check: 'size' compares file sizes; 'sha256' also reads and hashes every file; 'auto' hashes splits up to 1 GiB,
    and of larger ones the arrays.
    """
    index = indices.read(directory)
    made_with = index["tokenizer"]["fingerprint"]
    if tokenizer_fingerprint is not None and tokenizer_fingerprint != made_with:
        raise UserError(
            f"shards {directory}: made with tokenizer {made_with[:12]}, but the tokenizer in use is "
            f"{tokenizer_fingerprint[:12]}. Fix: the tokenizer in that folder, "
            f"--config.tokenizer=\"Pretrained(path='{directory}')\", or prepare the corpus again with yours."
        )
    if split not in index["splits"]:
        raise UserError(
            f'shards {directory}: no split "{split}"; there is: {", ".join(index["splits"])}. '
            f"Fix: prepare it again, with `jaxlm data --{split}-share=0.01`."
        )
    entry = index["splits"][split]
    entries = indices.files_of(entry)
    for file in entries:
        _check_file(Path(directory), file)
    if check == "auto" and sum(file["bytes"] for file in entries) > HASHED_BYTES:
        entries = list(entry["arrays"].values())
    for file in entries if check != "size" else ():
        _check_hash(Path(directory) / file["file"], file["sha256"])
    return _opened(str(directory), index, entry)


def _opened(directory: str, index: dict[str, Any], entry: dict[str, Any]) -> Shards:
    place = _Place(
        directory=os.path.abspath(directory),
        files=tuple(shard["file"] for shard in entry["shards"]),
        documents=tuple(shard["documents"] for shard in entry["shards"]),
        arrays={name: file["file"] for name, file in entry["arrays"].items()},
        of_tokens=frozenset(name for name, file in entry["arrays"].items() if file.get("per") == "tokens"),
        labels={name: tuple(names) for name, names in index["columns"].items() if names is not None},
        dtype=np.dtype(index["dtype"]).newbyteorder("<").str,
    )
    shards = Shards(place, entry["fingerprint"])
    if len(shards) != entry["documents"] or len(shards) != sum(place.documents):
        raise UserError(
            f"{Path(directory) / indices.INDEX}: its counts disagree with {place.arrays['lengths']}. Delete it and "
            "prepare again."
        )
    return shards


def _check_file(directory: Path, entry: dict[str, Any]) -> None:
    name = entry["file"]
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise UserError(
            f'{directory / indices.INDEX}: names a file outside its folder, "{name}". Do not use this folder.'
        )
    path = directory / name
    if not path.is_file():
        raise UserError(f"{path}: missing. {_fix(path, missing=True)}")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise UserError(
            f"{path}: damaged: {size:,} bytes where {entry['bytes']:,} were written. {_fix(path)}"
        )


def _check_hash(path: Path, expected: str) -> None:
    try:
        found = files.sha256(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}. Check the disk and the access."
        ) from error
    if found != expected:
        raise UserError(
            f"{path}: damaged: its SHA-256 is {found[:12]} where {expected[:12]} was written. {_fix(path)}"
        )


def _fix(path: str | os.PathLike[str], missing: bool = False) -> str:
    first = "Put it back" if missing else f"Delete {os.path.basename(path)}"
    return f"{first}{', or run' if missing else ' and run'} the same preparation again: only what is missing is made."
