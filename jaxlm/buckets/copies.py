"""Copies of runs in buckets for those who only look. In: a URL, a local folder. Out: an up to date copy below it.

Guaranteed: processes that want the same copy at once wait for each other; nothing is written to the bucket.
"""

import pathlib
import sys

from jaxlm import cached
from jaxlm.buckets.bucket import Bucket, BucketError
from jaxlm.buckets.mirror import Mirror, Wanted
from jaxlm.errors import UserError


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
