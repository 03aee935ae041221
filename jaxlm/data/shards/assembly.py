"""From finished parts to a prepared folder. In: the records of all parts. Out: shards with final names, arrays, index.

May be killed anywhere and run again: parts keep their records and arrays, and index.json is written last. The same
records give the same index, byte for byte.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxlm.data.corpus import files, spans
from jaxlm.data.corpus.columns import OF_TOKENS, Column, Label, Labels
from jaxlm.data.shards import index as indices
from jaxlm.data.shards import labels, parts
from jaxlm.data.shards.known import DIGESTS, ORIGINS
from jaxlm.data.tokenizer import Tokenizer

Records = list[dict[str, Any]]


def assemble(
    directory: Path, by_split: dict[str, Records], tokenizer: Tokenizer, about: dict[str, Any]
) -> dict[str, Any]:
    """Name the shards, write arrays and index; the index.

    `about`: key, dtype, sentences, columns, steps, corpus, origins, tokenizer_config.
    """
    names = {
        column.field: labels.inventory(by_split, number, column.field)
        for number, column in enumerate(about["columns"])
        if isinstance(column, (Label, Labels, *OF_TOKENS))
    }
    splits = {
        split: _split(directory, split, records, tokenizer, about["sentences"])
        for split, records in by_split.items()
    }
    for split, records in by_split.items():
        splits[split]["arrays"] |= {
            column.field: _write_column(directory, split, records, number, column, names.get(column.field))
            for number, column in enumerate(about["columns"])
        }
        if any(isinstance(column, OF_TOKENS) for column in about["columns"]):
            offsets = _write_offsets(directory, split, records, "token_offsets", "lengths")
            splits[split]["arrays"]["token_offsets"] = offsets
    index = {
        "format": indices.FORMAT,
        "key": about["key"],
        "fingerprint": "",  # its place in the file
        "dtype": about["dtype"],
        "sentences": about["sentences"],
        "tokenizer": {
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.size,
            "config": about["tokenizer_config"],
        },
        "corpus": about["corpus"],
        "columns": {column.field: names.get(column.field) for column in about["columns"]},
        "steps": about["steps"],
        "origins": about["origins"],
        "splits": splits,
    }
    index["fingerprint"] = indices.fingerprint_of(index)
    parts.write_json(directory / indices.INDEX, indices.sealed(index))
    return index


def _split(
    directory: Path, split: str, records: Records, tokenizer: Tokenizer, with_sentences: bool
) -> dict[str, Any]:
    entries = [_shard(directory, record, len(records)) for record in records]
    arrays = {"lengths": _write(directory, split, records, "lengths", np.uint32)}
    for name, dtype in ((DIGESTS, np.uint64), (ORIGINS, np.uint32)):
        if all(_found(directory, record, name) is not None for record in records):  # not in parts of before
            arrays[name] = _write(directory, split, records, name, dtype)
    if _found(directory, records[0], "fields") is not None:
        arrays["fields"] = _write(directory, split, records, "fields", np.uint32)
    elif with_sentences:
        arrays |= _write_sentences(directory, split, records)
    names = ("documents", "tokens", "characters", "text_bytes", "unknown_tokens", "sentences")
    return {
        **{name: sum(record[name] for record in records) for name in names},
        "fingerprint": indices.digest(
            [tokenizer.fingerprint, split, [record["content"] for record in records]]
        ),
        "shards": entries,
        "arrays": arrays,
    }


def _shard(directory: Path, record: dict[str, Any], count: int) -> dict[str, Any]:
    """Give a part's file its final name, unless an earlier attempt did."""
    place = parts.shard_file(directory, record)
    name = f"{parts.part_name(record['split'], record['number'])}-of-{count:05d}.arrayrecord"
    assert place is not None, f"{name}: a finished part lost its file"
    if place != directory / name:
        os.replace(place, directory / name)
    return {
        "file": name,
        **{key: record[key] for key in ("documents", "tokens", "bytes", "sha256", "content")},
    }


def _write(directory: Path, split: str, records: Records, name: str, dtype: Any) -> dict[str, Any]:
    """One array of all parts: the same number of values for every document."""
    values = len(_array(directory, records[0], name)) // records[0]["documents"]
    column = _Column(
        directory, f"{split}.{name}.npy", dtype, values * sum(record["documents"] for record in records)
    )
    for record in records:
        column.append(_array(directory, record, name))
    return column.finish()


def _write_column(
    directory: Path, split: str, records: Records, number: int, column: Column, names: list[str] | None
) -> dict[str, Any]:
    """The values of one column: numbers, those of the names of a label, or of spans, of every token."""
    if isinstance(column, Labels):
        return _write_labels(directory, split, records, number, names or [])
    per = "tokens" if isinstance(column, OF_TOKENS) else "documents"
    name, size = f"column_{number}", sum(record[per] for record in records)
    file = _Column(directory, f"{split}.{name}.npy", np.float32 if names is None else np.int32, size)
    for record in records:
        values = _array(directory, record, name)
        if names is not None:
            numbers = labels.numbers(record, number, names)
            values = spans.numbered(values, numbers) if per == "tokens" else numbers[values]
        file.append(values)
    return {**file.finish(), "per": per}


def _write_labels(
    directory: Path, split: str, records: Records, number: int, names: list[str]
) -> dict[str, Any]:
    """Of every document 1 or 0 for each name."""
    documents = sum(record["documents"] for record in records)
    file = _Column(directory, f"{split}.column_{number}.npy", np.uint8, documents * len(names))
    for record in records:
        values, counts = (_array(directory, record, f"column_{number}{end}") for end in ("", "_counts"))
        made = np.zeros((record["documents"], len(names)), np.uint8)
        made[np.repeat(np.arange(len(counts)), counts), labels.numbers(record, number, names)[values]] = 1
        file.append(made.reshape(-1))
    return {**file.finish(), "per": "documents"}


def _write_offsets(directory: Path, split: str, records: Records, name: str, counted: str) -> dict[str, Any]:
    """What stands before each document, by the numbers of the array `counted`, and the whole of it at the end."""
    documents = sum(record["documents"] for record in records)
    file = _Column(directory, f"{split}.{name}.npy", np.int64, documents + 1)
    before = np.zeros(1, np.int64)
    file.append(before)
    for record in records:
        ends = before[-1] + np.cumsum(_array(directory, record, counted), dtype=np.int64)
        file.append(ends)
        before = ends
    return file.finish()


def _write_sentences(directory: Path, split: str, records: Records) -> dict[str, Any]:
    longest = max(record["longest_sentence"] for record in records)
    dtype = np.uint16 if longest < 2**16 else np.uint32
    number = sum(record["sentences"] for record in records)
    file = _Column(directory, f"{split}.sentences.npy", dtype, number)
    for record in records:
        file.append(_array(directory, record, "sentences"))
    offsets = _write_offsets(directory, split, records, "sentence_offsets", "counts")
    return {"sentences": file.finish(), "sentence_offsets": offsets}


def _found(directory: Path, record: dict[str, Any], name: str) -> np.ndarray | None:
    return parts.load_array(directory, parts.part_name(record["split"], record["number"]), name)


def _array(directory: Path, record: dict[str, Any], name: str) -> np.ndarray:
    found = _found(directory, record, name)
    assert found is not None, f"{directory}: a part of {record['split']} has no {name}"
    return found


class _Column:
    """An .npy file filled part by part, never whole in memory."""

    def __init__(self, directory: Path, name: str, dtype: Any, size: int):
        self.path = directory / name
        self.temporary = directory / f"{name}.tmp-{os.getpid()}"
        self.stream = open(self.temporary, "wb")  # noqa: SIM115 (closed by finish)
        self.dtype, self.size, self.used = np.dtype(dtype), size, 0
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(self.stream, description)

    def append(self, values: np.ndarray) -> None:
        self.stream.write(values.astype(self.dtype).tobytes())
        self.used += len(values)

    def finish(self) -> dict[str, Any]:
        assert self.used == self.size, f"{self.path}: {self.used} of {self.size}"
        self.stream.close()
        parts.commit(self.temporary, self.path)
        return {"file": self.path.name, "bytes": self.path.stat().st_size, "sha256": files.sha256(self.path)}
