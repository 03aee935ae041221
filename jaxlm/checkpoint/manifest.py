"""The manifest of a step: what it holds and the SHA-256 of every file. It is written last and marks the
commit.

In: a step's folder. Out: `manifest.json` in it. Guarantees: a folder with a manifest is complete; `verify`
finds any file that was deleted, cut, zeroed or changed, the manifest included.

Own hashes, because the storage below does not notice: of 12 single bit flips in an array's data file (orbax
0.12.8, OCDBT + zarr3), 12 loaded without an error and with wrong values.
"""

import hashlib
import json
import os
from typing import Any, Literal

from etils import epath

from jaxlm.checkpoint.names import Arrays

FILE = "manifest.json"
FORMAT = 1
_CHUNK = 1 << 22


class Damaged(Exception):
    """A step's folder is not what was saved; the message names the file."""


def write(folder: epath.Path, *, step: int, meta: dict, metrics: dict[str, float], arrays: Arrays) -> None:
    """Hashes every file under `folder`, makes them durable, then writes the manifest in one rename."""
    files = {name: _hashed(folder / name) for name in _files(folder)}
    entries = {"step": step, "meta": meta, "metrics": metrics, "arrays": arrays, "files": files}
    # Through JSON and back, so that the digest is of what will be read (string keys, lists).
    manifest = json.loads(json.dumps({"format": FORMAT, **entries}))
    text = json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1)
    partial = folder / f"{FILE}.partial"
    partial.write_text(text)
    _sync(partial)
    partial.rename(folder / FILE)
    _sync(folder)


def read(folder: epath.Path) -> dict[str, Any]:
    """The manifest of a committed step. Raises Damaged when it is missing, cut or changed."""
    try:
        manifest = json.loads((folder / FILE).read_text())
        claimed = manifest.pop("sha256")
    except FileNotFoundError:
        raise Damaged(f"{FILE} is missing") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise Damaged(f"{FILE} cannot be read") from None
    if claimed != _digest(manifest):
        raise Damaged(f"{FILE} was changed")
    if manifest["format"] != FORMAT:
        raise Damaged(f"{FILE} has format {manifest['format']}; this version reads {FORMAT}")
    return manifest


def verify(folder: epath.Path, *, check: Literal["size", "sha256"] = "sha256") -> dict[str, Any]:
    """The manifest, after comparing every file with it. Raises Damaged naming the first that differs."""
    manifest = read(folder)
    present = set(_files(folder))
    for name, entry in manifest["files"].items():
        if name not in present:
            raise Damaged(f"{name} is missing")
        size = (folder / name).stat().length
        if size != entry["bytes"]:
            raise Damaged(f"{name} has {size} bytes instead of {entry['bytes']}")
        if check == "sha256" and _hashed(folder / name, sync=False)["sha256"] != entry["sha256"]:
            raise Damaged(f"{name} was changed (its SHA-256 differs)")
    return manifest


def _files(folder: epath.Path) -> list[str]:
    """Paths of all files below, relative, without the manifest itself."""
    found: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            found += [f"{path.name}/{name}" for name in _files(path)]
        elif not path.name.startswith(FILE):
            found.append(path.name)
    return found


def _hashed(path: epath.Path, *, sync: bool = True) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    if sync:
        _sync(path)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _sync(path: epath.Path) -> None:
    """fsync of a local file or folder: nothing below calls it. Buckets are durable when the write returns."""
    if "://" in os.fspath(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
