"""Where the results of a long job lie. In: a folder of this machine or the URL of one. Out: files that appear whole or
not at all, under their names.

A file here is made under a hidden name of this process and renamed; in a bucket an object is whole by itself.
"""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Protocol

from jaxlm.buckets.bucket import Bucket, BucketError, is_url
from jaxlm.errors import UserError

Write = Callable[[pathlib.Path], None]  # makes a file of that path


class Place(Protocol):
    """A folder, perhaps not there yet."""

    shown: str  # as a user names it

    def names(self) -> set[str]: ...

    def read(self, name: str) -> bytes | None: ...

    def put(self, name: str, write: Write) -> None: ...

    def create(self, name: str, content: bytes) -> None: ...

    def fetched(self, name: str) -> contextlib.AbstractContextManager[pathlib.Path]: ...

    def remove(self, name: str) -> None: ...

    def clear(self, last: str) -> None: ...


def of(where: str) -> Place:
    """The place of a path or a URL."""
    return _Objects(where) if is_url(where) else _Folder(pathlib.Path(where))


class _Folder:
    """On a disk, perhaps shared with other machines."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root, self.shown = root, str(root)

    def names(self) -> set[str]:
        """Of the files that are whole."""
        with self._errors():
            there = self.root.iterdir() if self.root.is_dir() else ()
            return {path.name for path in there if path.name[0] != "."}

    def read(self, name: str) -> bytes | None:
        """A small file; None: there is none."""
        with self._errors():
            path = self.root / name
            return path.read_bytes() if path.is_file() else None

    def put(self, name: str, write: Write) -> None:
        """Makes or replaces a file by what `write` makes."""
        with self._errors():
            self.root.mkdir(parents=True, exist_ok=True)
            self._sweep(name)
            ending = pathlib.PurePath(name).suffix
            partial = self.root / f".{name}.{socket.gethostname()}.{os.getpid()}{ending}"
            try:
                write(partial)
                with partial.open("rb") as stream:
                    os.fsync(stream.fileno())
                partial.replace(self.root / name)
            finally:
                partial.unlink(missing_ok=True)

    def create(self, name: str, content: bytes) -> None:
        """Makes a file, unless somebody was faster."""
        with self._errors():
            self.root.mkdir(parents=True, exist_ok=True)
            partial = self.root / f".{name}.{socket.gethostname()}.{os.getpid()}"
            partial.write_bytes(content)
            with contextlib.suppress(FileExistsError):
                os.link(partial, self.root / name)
            partial.unlink()

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[pathlib.Path]:
        """A file as one to read; missing where somebody removed it."""
        yield self.root / name

    def remove(self, name: str) -> None:
        """Deletes a file; none there is fine."""
        with self._errors():
            (self.root / name).unlink(missing_ok=True)

    def clear(self, last: str) -> None:
        """Removes the folder, the file `last` at the end."""
        with self._errors():
            for path in self.root.iterdir() if self.root.is_dir() else ():
                if path.name != last:
                    path.unlink(missing_ok=True)
            shutil.rmtree(self.root, ignore_errors=True)

    def _sweep(self, name: str) -> None:
        """Removes what a process of this machine that was killed left of a file."""
        start = f".{name}.{socket.gethostname()}."
        for path in self.root.glob(f".{_literal(start[1:])}*"):
            number = re.match("[0-9]+", path.name.removeprefix(start))
            if number and not _alive(int(number[0])):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = error.strerror or error
            raise UserError(
                f"--output: {error.filename or self.root} cannot be written or read: {said}. Fix: make room or give "
                "access; the same line again goes on with the parts that are there."
            ) from error


class _Objects:
    """In a bucket."""

    def __init__(self, url: str) -> None:
        self.shown = url.rstrip("/")
        self._bucket = Bucket(self.shown)

    def names(self) -> set[str]:
        """Of the objects."""
        with self._errors():
            return {name for name in self._bucket.listed() if "/" not in name}

    def read(self, name: str) -> bytes | None:
        """A small object; None: there is none."""
        with self._errors():
            try:
                return self._bucket.read(name)
            except FileNotFoundError:
                return None

    def put(self, name: str, write: Write) -> None:
        """Makes or replaces an object by the file that `write` makes."""
        with self._errors(), tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / name
            write(path)
            self._bucket.upload(path, name)

    def create(self, name: str, content: bytes) -> None:
        """Makes an object, unless somebody was faster."""
        with self._errors():
            self._bucket.create(name, content)

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[pathlib.Path]:
        """An object as a file to read; missing where somebody removed it."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / name
            with self._errors(), contextlib.suppress(FileNotFoundError):
                self._bucket.download(name, path)
            yield path

    def remove(self, name: str) -> None:
        """Deletes an object; none there is fine."""
        with self._errors():
            self._bucket.remove(name)

    def clear(self, last: str) -> None:
        """Removes the objects, `last` at the end."""
        with self._errors():
            for name in sorted(self.names(), key=lambda name: name == last):
                self._bucket.remove(name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BucketError as error:
            raise UserError(
                f"{error}. Fix: check the address and the access; the same line again goes on with the parts that "
                "are there."
            ) from error


def _literal(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
