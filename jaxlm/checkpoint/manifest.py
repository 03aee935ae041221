"""The manifest of a step: what it holds and the SHA-256 of every file. It is written last and marks the
commit.

In: a step's folder. Out: `manifest.json` in it. Guarantees: a folder with a manifest is complete; `verify`
finds any file that was deleted, cut, zeroed or changed, the manifest included, or that cannot be read.

Own hashes, because the storage below does not notice: of 12 single bit flips in an array's data file (orbax
0.12.8, OCDBT + zarr3), 12 loaded without an error and with wrong values. With several hosts each hashes its share of
the files, in threads: one process would need half an hour for a terabyte, while all others wait.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import time
from typing import Any, Literal

FILE = "manifest.json"
FORMAT = 1
_CHUNK = 1 << 22
_THREADS = max(1, min(8, (os.cpu_count() or 1) // 2))  # the other half feeds the devices
_PEER_WAIT_S = 300.0

Check = Literal["size", "sha256"]
Files = dict[
    str, dict[str, Any]
]  # {"state/d/0a1b": {"bytes": 4096, "sha256": "..."}}; no sha256 with check="size"


class DamagedStep(Exception):
    """A step's folder is not what was saved; the message names the file."""


@dataclasses.dataclass(frozen=True)
class HostShare:
    """The files that process `index` of `count` reads: those it wrote (orbax numbers them), and some of the rest."""

    index: int = 0
    count: int = 1

    def of(self, names: list[str]) -> list[str]:
        """Its part of the names of all files; every name is in one part."""
        return [name for i, name in enumerate(sorted(names)) if self._owner(i, name) == self.index]

    def _owner(self, i: int, name: str) -> int:
        writer = re.search(r"ocdbt\.process_(\d+)/", name)
        return (int(writer[1]) if writer else i) % self.count


ALL = HostShare()


@dataclasses.dataclass(frozen=True)
class Without:
    """All files but some."""

    names: frozenset[str]

    def of(self, names: list[str]) -> list[str]:
        """Those of the names that are asked for."""
        return [name for name in names if name not in self.names]


def commit(folder: pathlib.Path, entries: dict[str, Any], *, check: Check, share: HostShare) -> None:
    """Hashes every file under `folder`, makes them durable, then writes the manifest in one rename.

    `entries`: step, meta, metrics, arrays. All processes call it, each for its share; the first writes the manifest.
    OSError where a file, or another process' part, cannot be read.
    """
    started = time.monotonic()
    files = described(folder, check=check, share=share)
    if share.index:
        _write(folder, f"{FILE}.part-{share.index}", json.dumps(files))
        return
    deadline = time.monotonic() + _PEER_WAIT_S + 4 * (time.monotonic() - started)
    for index in range(1, share.count):
        files |= _part(folder / f"{FILE}.part-{index}", deadline)
    if unseen := sorted(set(_files(folder)) - files.keys()):
        raise OSError(f"{unseen[0]} was not seen by the process that hashes it")
    write(folder, entries, files)


def described(folder: pathlib.Path, *, check: Check, share: HostShare | Without) -> Files:
    """The manifest's entries of the files under `folder`, which are made durable. OSError where one cannot be read."""
    names = share.of(_files(folder))
    describe = functools.partial(_described, folder, check=check, sync=True)
    return dict(zip(names, _in_threads(describe, names), strict=True))


def write(folder: pathlib.Path, entries: dict[str, Any], files: Files) -> None:
    """The manifest, durable and in one rename: from now on the step counts."""
    # Through JSON and back, so that the digest is of what will be read (string keys, lists).
    manifest = json.loads(json.dumps({"format": FORMAT, **entries, "files": dict(sorted(files.items()))}))
    _write(folder, FILE, json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1))


def read(folder: pathlib.Path) -> dict[str, Any]:
    """The manifest of a committed step. Raises DamagedStep when it is missing, cut, changed, or another step's."""
    try:
        manifest = json.loads((folder / FILE).read_text())
        claimed = manifest.pop("sha256")
    except FileNotFoundError:
        raise DamagedStep(f"{FILE} is missing") from None
    except OSError as error:
        raise DamagedStep(f"{FILE} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DamagedStep(f"{FILE} cannot be read") from None
    if claimed != _digest(manifest):
        raise DamagedStep(f"{FILE} was changed")
    if manifest["format"] != FORMAT:
        raise DamagedStep(f"{FILE} has format {manifest['format']}; this version reads {FORMAT}")
    if str(manifest["step"]) != folder.name:
        raise DamagedStep(f"{FILE} is that of step {manifest['step']}: the folder was renamed")
    return manifest


def verify(folder: pathlib.Path, *, check: Check = "sha256", share: HostShare = ALL) -> None:
    """Compares every file with the manifest, of those in `share` the contents. DamagedStep names the first."""
    files: Files = read(folder)["files"]
    try:
        missing = sorted(files.keys() - set(_files(folder)))
    except OSError as error:
        raise DamagedStep(f"{error.filename or folder} cannot be read ({error.strerror})") from error
    if missing:
        raise DamagedStep(f"{missing[0]} is missing")
    names = share.of(list(files))
    for _ in _in_threads(lambda name: _compare(folder, name, files[name], check), names):
        pass


def _compare(folder: pathlib.Path, name: str, entry: dict[str, Any], check: Check) -> None:
    """Raises DamagedStep unless the file is the one that was saved."""
    try:
        size = (folder / name).stat().st_size
        if size != entry["bytes"]:
            raise DamagedStep(f"{name} has {size} bytes instead of {entry['bytes']}")
        if check == "sha256" and "sha256" in entry and _described(folder, name, check=check) != entry:
            raise DamagedStep(f"{name} was changed (its SHA-256 differs)")
    except OSError as error:
        raise DamagedStep(f"{name} cannot be read ({error.strerror})") from error


def _files(folder: pathlib.Path) -> list[str]:
    """Paths of all files below, relative, without the manifest itself and its parts. OSError for a folder unread."""

    def stop(error: OSError) -> None:
        raise error

    found = [
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder, onerror=stop, followlinks=True)
        for name in names
    ]
    return sorted(name for name in found if not name.startswith(FILE))


def _in_threads(work: Any, names: list[str]) -> Any:
    """The results in order; the first error ends it."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(work, names)


def _described(folder: pathlib.Path, name: str, *, check: Check, sync: bool = False) -> dict[str, Any]:
    """The manifest's entry of a file."""
    if sync:
        _sync(folder / name)
    if check == "size":
        return {"bytes": (folder / name).stat().st_size}
    digest, size = hashlib.sha256(), 0
    with (folder / name).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _part(path: pathlib.Path, deadline: float) -> Files:
    """Waits for what another process hashed; its share is as large as ours, so it is done at about the same time."""
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {path.name.rsplit('-')[-1]} did not hash its files")
        time.sleep(0.05)
    files = json.loads(path.read_text())
    path.unlink()
    return files


def _write(folder: pathlib.Path, name: str, text: str) -> None:
    """One file, durable and in one rename."""
    partial = folder / f"{name}.partial"
    partial.write_text(text)
    _sync(partial)
    partial.rename(folder / name)
    _sync(folder)


def _sync(path: pathlib.Path) -> None:
    """fsync of a file or folder: nothing below calls it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(manifest: dict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
