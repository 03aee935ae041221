"""Folders in buckets that nobody changes here: copies to look at, and what is put there once and for all.

In: a URL, a local folder. Out: an up to date copy below it; or the folder in the bucket, its last file last.
Guaranteed: processes that want the same copy at once wait for each other; what lacks its last file is not there.
"""

import hashlib
import pathlib
import re
import sys

from jaxlm import cached
from jaxlm.buckets.bucket import Bucket, BucketError
from jaxlm.buckets.mirror import Mirror, Wanted, in_threads
from jaxlm.errors import UserError


def home(url: str, cache: pathlib.Path) -> pathlib.Path:
    """Where everything about the folder at `url` lies on this machine."""
    name = re.sub("[^A-Za-z0-9]+", "-", url)[-60:].strip("-")
    return cache / "buckets" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def copied(url: str, home: pathlib.Path, wanted: Wanted) -> pathlib.Path:
    """A folder below `home` with what is wanted of the objects at `url`; missing where there are none."""
    folder = home / "read" / url.rsplit("/", 1)[1]
    try:
        with cached.locked(folder.parent, lambda line: print(line, file=sys.stderr)):
            Mirror(Bucket(url), folder, home / "read.json").pull(wanted, exactly=False)
    except BucketError as error:
        raise UserError(f"{error}. Fix: check the address and the access.") from error
    except OSError as error:
        raise UserError(
            f"{url}: its copy {folder} cannot be made: {error.strerror or error}. Fix: make room or give access, or "
            "choose another place with JAXLM_CACHE=DIR."
        ) from error
    return folder


def fetched(url: str, folder: pathlib.Path) -> None:
    """Makes a folder have what was put there. UserError when it cannot be read."""
    record = folder.with_name(f".{folder.name}.fetched")
    try:
        Mirror(Bucket(url), folder, record).pull(exactly=False)
    except BucketError as error:
        raise UserError(f"{error}. Fix: check the address and the access.") from error
    finally:
        record.unlink(missing_ok=True)


def has(url: str, last: str) -> bool:
    """Whether a folder that was put there is whole."""
    try:
        return Bucket(url).has(last)
    except BucketError as error:
        raise UserError(f"{error}. Fix: check the address and the access.") from error


def put(folder: pathlib.Path, url: str, last: str) -> None:
    """Puts the files of a folder there, but for hidden ones. UserError where another folder is."""
    bucket = Bucket(url)
    try:
        if bucket.has(last):
            if bucket.read(last) != (folder / last).read_bytes():
                raise UserError(
                    f"{url} holds something else already. Fix: choose another folder, or delete this one."
                )
            return
        names = [path.name for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."]
        in_threads(lambda name: bucket.upload(folder / name, name), [name for name in names if name != last])
        bucket.upload(folder / last, last)
    except BucketError as error:
        raise UserError(f"{error}. Fix: check the address and the access.") from error
