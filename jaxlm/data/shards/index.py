"""The index of a prepared folder: what is in it, and whether it is whole. In: index.json. Out: a checked dict.

Format 2 names its arrays: `splits[split]["arrays"]` is {"lengths": {file, bytes, sha256}, ...}, and `seal` is the
SHA-256 of all the rest. `origins` (absent in folders of before) are the files that its documents came from.
Format 1 had a list of arrays and no seal; it is read as if it were format 2.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jaxlm.errors import UserError

FORMAT = 2
INDEX = "index.json"


class DamagedIndex(UserError):
    """An index that is not what was written."""


def read(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The index of a prepared folder; UserError when it is missing, unreadable or of another format."""
    path = Path(directory) / INDEX
    if not path.is_file():
        raise UserError(
            f"shards {directory}: no {INDEX}. Either this is not a folder of prepared shards, or its preparation has "
            "not finished: run the same command again, it continues."
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["format"]
        if version == 1:
            index = _named(index) if _agrees(index) else {}
        elif version == FORMAT and index.pop("seal") != digest(index):
            index = {}
        if not index:
            raise ValueError("its fingerprints disagree")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise DamagedIndex(
            f"{path}: damaged: {error}. Delete it and prepare again: finished shards are kept."
        ) from error
    if version not in (1, FORMAT):
        raise UserError(
            f"{path}: format {version}; this version reads formats 1 and {FORMAT}. Prepare the corpus again."
        )
    return index


def sealed(index: dict[str, Any]) -> dict[str, Any]:
    """The index as it is written."""
    return {**index, "seal": digest(index)}


def files_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The files of a split: {file, bytes, sha256} each."""
    return [*entry["shards"], *entry["arrays"].values()]


def fingerprint_of(index: dict[str, Any]) -> str:
    """Of all splits and what their tokens are."""
    fingerprints = {split: entry["fingerprint"] for split, entry in index["splits"].items()}
    return digest([index["tokenizer"]["fingerprint"], index["dtype"], fingerprints])


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _agrees(index: dict[str, Any]) -> bool:
    """Format 1: whether all that is read is there, and every sum and fingerprint follows from those below it."""
    for split, entry in index["splits"].items():
        contents = [shard["content"] for shard in entry["shards"]]
        if entry["fingerprint"] != digest([index["tokenizer"]["fingerprint"], split, contents]):
            return False
        if entry["documents"] != sum(shard["documents"] for shard in entry["shards"]):
            return False
        if not all(
            {"file", "bytes", "sha256"} <= file.keys() for file in (*entry["shards"], *entry["arrays"])
        ):
            return False
    return index["fingerprint"] == fingerprint_of(index) and {"key", "sentences", "corpus"} <= index.keys()


def _named(index: dict[str, Any]) -> dict[str, Any]:
    """Format 1 as format 2: the arrays were these, in this order; fields stood where sentences do."""
    names = ["lengths", "fields" if "text_fields" in index["corpus"] else "sentences", "sentence_offsets"]
    splits = {
        split: {**entry, "arrays": dict(zip(names, entry["arrays"], strict=False))}
        for split, entry in index["splits"].items()
    }
    return {**index, "splits": splits, "columns": {}, "steps": []}
