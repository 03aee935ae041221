"""One folder of an object store. In: a URL. Out: its objects, listed, read and written whole, through fsspec.

Guaranteed: an object appears whole or not at all; nothing is cached, so that every answer is of this moment; whatever
the store refuses is a BucketError that names the object.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxlm.errors import UserError

_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
_STAMPS = ("generation", "ETag", "etag", "md5Hash", "mtime", "LastModified", "created")


class BucketError(OSError):
    """The object store refused something."""


def is_url(path: str) -> bool:
    """Whether a path names a place in a store."""
    return "://" in path


def filesystem(url: str, **options: Any) -> Any:
    """The fsspec file system of a URL; UserError when its package is missing."""
    import fsspec  # here: `is_url` is asked before anything is loaded

    scheme = url.split("://")[0]
    extra = _EXTRAS.get(scheme)
    try:
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        fix = f'Install it with: pip install "jaxlm[{extra}]"' if extra else "Install what it names with pip."
        raise UserError(
            f"{url}: reading {scheme}:// paths needs a missing package ({error}). {fix}"
        ) from error
    except ValueError as error:
        raise UserError(f'{url}: "{scheme}://" is not a known kind of path ({error}).') from error
    except (OSError, TypeError) as error:  # a kind that needs more than a path, such as zip://
        raise UserError(
            f"{url}: {scheme}:// paths cannot be read ({error}). Unpack or download it first."
        ) from error


class Bucket:
    """The objects below a URL, by their names relative to it."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._system = filesystem(self.url, use_listings_cache=False, skip_instance_cache=True)
        self._root = self._system._strip_protocol(self.url)

    def listed(self, below: str = "") -> dict[str, str]:
        """{name: what changes whenever the object is written} of all objects."""
        with self._errors(below, "listed"):
            try:
                found = self._system.find(self._path(below) if below else self._root, detail=True)
            except FileNotFoundError:  # no such folder, or bucket; writing to the latter says so
                return {}
        start = f"{self._root}/"
        names = {str(path).removeprefix(start): about for path, about in found.items() if str(path) != start}
        strange = [name for name in names if ".." in name.split("/") or name.startswith("/")]
        if strange:
            raise UserError(f"{self.url}: the name of its object {strange[0]!r} is no path inside a folder.")
        return {name: _stamp(about) for name, about in sorted(names.items()) if not name.endswith("/")}

    def has(self, name: str) -> bool:
        """Whether there is an object of that name."""
        with self._errors(name, "looked for"):
            return bool(self._system.isfile(self._path(name)))

    def read(self, name: str) -> bytes:
        """An object. FileNotFoundError where there is none."""
        with self._errors(name, "read"):
            return self._system.cat_file(self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Makes or replaces an object."""
        with self._errors(name, "written"):
            self._system.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Makes an object; False when there is one, of whoever was faster."""
        with self._errors(name, "written"):
            try:
                self._system.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            return True

    def download(self, name: str, to: pathlib.Path) -> None:
        """An object as a file. FileNotFoundError where there is none."""
        with self._errors(name, "read"):
            self._system.get_file(self._path(name), str(to))

    def upload(self, path: pathlib.Path, name: str) -> None:
        """A file, which nobody changes, as an object."""
        with self._errors(name, "written"):
            self._system.put_file(str(path), self._path(name))

    def remove(self, name: str) -> None:
        """Deletes an object; none there is fine."""
        with self._errors(name, "removed"), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _errors(self, name: str, done: str) -> Iterator[None]:
        """What the libraries below raise has no class in common: it becomes a BucketError."""
        where = "/".join(filter(None, (self.url, name)))
        try:
            yield
        except (UserError, BucketError):
            raise
        except FileNotFoundError as error:
            if done == "read":
                raise
            raise BucketError(f"{where} cannot be {done} ({error})") from error
        except Exception as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise BucketError(f"{where} cannot be {done} ({said})") from error


def _stamp(about: dict[str, Any]) -> str:
    """What tells a version of an object from every other."""
    said = next((about[name] for name in _STAMPS if about.get(name) is not None), "")
    return f"{said} {about.get('size')}"
