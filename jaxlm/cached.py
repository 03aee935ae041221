"""Folders of files that are made once and trusted by every later start. In: a name, a key, what writes the files.

Out: the folder. It gets its name only when it is whole and on the disk, and every start compares all of it with the key
and the SHA-256 in its manifest (a core hashes 0.5 to 2 GB/s): what differs, is missing or cannot be read is made anew,
with one line. Processes that want the same at once wait for the first; a complete cache may be read-only.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxlm.errors import UserError

MANIFEST = "manifest.json"
LEFTOVERS = (".*-*", "*.tmp-*")  # of processes that were killed
# Where locks are those of one host only, what another host writes looks like a leftover, but a young one.
LEFTOVER_SECONDS = 3600

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Cache:
    """Cached folders under one root, and where to say that one is made anew."""

    root: Path
    say: Say = print

    def find(self, name: str, key: str, write: Callable[[Path], object]) -> Path:
        """The folder root/name that `write(folder)` filled for this key, now or before. UserError when it cannot."""
        target = self.root / name
        fault = _fault(target, key)
        if fault is None:
            return target
        try:
            with locked(target.parent, self.say) as alone:
                if alone:
                    _sweep(target.parent)
                fault = _fault(target, key)  # another process may have made it meanwhile
                if fault:
                    self.say(f"{target}: {fault}; it is made anew")
                if fault is not None:
                    _make(target, key, write)
        except OSError as error:
            raise UserError(
                f"{target}: {f'{fault}, and it ' if fault else ''}cannot be made: {error.strerror or error}. Make room "
                "or give access, or choose another place with JAXLM_CACHE=DIR."
            ) from error
        return target


def _fault(folder: Path, key: str) -> str | None:
    """What is wrong with a cached folder: None when nothing is, '' when there is none."""
    if not os.path.lexists(folder):
        return ""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["key"] != key:
            return "it was made for something else"
        files = manifest["files"]
        if {MANIFEST, *files} != {name for name in os.listdir(folder) if not name.startswith(".")}:
            return "its files are not those of its manifest"
        with concurrent.futures.ThreadPoolExecutor() as pool:
            found = pool.map(_sha256, [folder / name for name in files])
            changed = [name for name, digest in zip(files, found, strict=True) if digest != files[name]]
        return f"{changed[0]} is damaged" if changed else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read ({error})"


def _make(target: Path, key: str, write: Callable[[Path], object]) -> None:
    """Fills a folder under another name, makes it durable and puts it in the place of what was there."""
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        made = work / "made"
        made.mkdir()  # mkdtemp's is private; other users of a shared cache must read this one
        write(made)
        files = {path.name: _sha256(path) for path in sorted(made.iterdir())}
        (made / MANIFEST).write_text(json.dumps({"key": key, "files": files}, indent=1) + "\n")
        for path in (*made.iterdir(), made):
            sync(path)
        # Where there are no locks another process may have been first: what it reads by now must stay.
        try:
            if os.path.lexists(target) and _fault(target, key) is not None:
                os.rename(target, work / "damaged")
            os.rename(made, target)
        except OSError:
            if _fault(target, key) is not None:
                raise
        sync(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left."""
    for path in (path for pattern in LEFTOVERS for path in folder.glob(pattern)):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextlib.contextmanager
def locked(folder: Path, say: Say) -> Iterator[bool]:
    """Makes a folder and holds its lock, waiting for it; False where there are no locks. Death frees it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not a POSIX system: renames alone keep the result whole
        yield False
        return
    with _lock_file(folder / ".lock") as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder}: another process is preparing this; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            say(f"{folder}: this file system has no locks ({error}): do not prepare the same twice at once")
            yield False
            return
        yield True


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # made by another user of a shared cache
        descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
