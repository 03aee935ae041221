"""Folders of this machine. In: a path as a user writes it, or the environment. Out: the path, with ~ expanded."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from jaxlm.buckets.bucket import is_url
from jaxlm.errors import UserError

_STALE_S = 24 * 3600.0


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path without ~. UserError where the user, or its home, is unknown (a container's bare user id)."""
    found = Path(os.path.expanduser(path))
    if found.parts[:1] and found.parts[0].startswith("~") and os.fspath(path).startswith("~"):
        raise UserError(
            f"{path}: the home folder of this user is not known. Fix: a path without ~, or set HOME."
        )
    return found


def local(path: str | os.PathLike[str]) -> Path:
    """As `expanded`. UserError for a URL: a cache has locks, renames and memory maps."""
    if is_url(os.fspath(path)):
        raise UserError(
            f"{os.fspath(path)}: caches are folders of this machine, or of a disk that is mounted; run folders "
            "may be in a bucket. Fix: name a folder, as data.cache or JAXLM_CACHE."
        )
    return expanded(path)


def default_cache() -> Path:
    """$JAXLM_CACHE, or ~/.cache/jaxlm: tokenised corpora, packing plans, compiled programs."""
    given = os.environ.get("JAXLM_CACHE") or "~/.cache/jaxlm"
    try:
        return local(given).absolute()
    except UserError as error:
        raise UserError(f"There is no place for the cache: {error} Or set JAXLM_CACHE=DIR.") from error


def cache_folder(named: str) -> Path:
    """The folder of that name, or `default_cache` for ""."""
    return local(named) if named else default_cache()


@contextlib.contextmanager
def disk_errors(
    folder: str | os.PathLike[str],
    fix: str = "Make room or give access, or choose another place with JAXLM_CACHE=DIR; finished parts are kept.",
) -> Iterator[None]:
    """What the disk refuses in `folder` becomes a UserError that names the file and the fix."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename or folder)
        inside = Path(name).absolute().is_relative_to(Path(folder).absolute())
        numpys = type(error) is OSError and error.errno is None
        full = numpys or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if not (inside if error.filename else full):
            raise
        raise UserError(f"{name} cannot be used: {error.strerror or error}. {fix}") from error


def remove_leftovers(folder: Path, pattern: str) -> None:
    """Removes what processes that were killed left half done: a day old, so that nobody works on it any more."""
    for path in folder.glob(pattern):
        if path.is_dir() and time.time() - path.stat().st_mtime > _STALE_S:
            shutil.rmtree(path, ignore_errors=True)
