"""Run folders in buckets, as commands name them. In: a path or a URL. Out: a local folder.

What a run works in (`working`) and what other commands look at (`readable`, `glimpsed`) are different copies below the
cache, `buckets/<name>/{work,read}/`: looking at a run on the machine that trains it leaves its folder alone. A copy is
brought up to date whenever a command names it; what has not changed is not fetched again.
"""

import json
import pathlib
import re
import socket
import sys
from typing import Literal

from jaxlm.buckets import copies, mirror
from jaxlm.buckets.bucket import is_url
from jaxlm.data.places import default_cache, expanded
from jaxlm.errors import UserError

_NAMED = re.compile(r"(?P<root>.+?)(?P<inside>/checkpoints(/\d+)?)?/*(?P<step>@\d+)?")
_ABOUT = "bucket.json"

Weights = Literal["named", "all", "none"]


def working(path: str, where: str) -> tuple[pathlib.Path, str]:
    """(the folder of this machine that a run works in, the URL that it is a copy of; "": of none)."""
    if not is_url(path):
        return _own_folder(path, where), ""
    url = path.rstrip("/")
    if url.endswith(":") or "/" not in url.split("://")[1]:
        raise UserError(f"{where}={path}: name a folder in the bucket, such as {url}/run.")
    return _home(url) / "work" / url.rsplit("/", 1)[1], url


def home_of(folder: pathlib.Path) -> pathlib.Path:
    """Where the records of a working copy lie."""
    return folder.parent.parent


def readable(path: str, *, weights: Weights = "named") -> str:
    """A path as it is, of a URL an up to date copy of the run that lies there; an @N behind it stays there.

    `weights`: of the checkpoint that the URL names, or all where it names none (the best is used); "none": manifests.
    """
    if not is_url(path):
        return path
    found = _NAMED.fullmatch(path)
    assert found is not None  # it takes whatever is not empty
    url, inside = found["root"], found["inside"] or ""
    step = re.search("[0-9]+$", found["step"] or inside) if weights == "named" else None
    below = f"{mirror.STEPS}{step[0]}/" if step else mirror.STEPS
    always = lambda name: not name.startswith(mirror.STEPS) or mirror.is_marker(name)
    wanted = lambda name: always(name) or (weights != "none" and name.startswith(below))
    folder = copies.copied(url, _home(url), wanted)
    if not folder.is_dir():
        raise UserError(f"{path}: nothing is there. Fix: name the --workdir of a training.")
    print(f"{url}: read as {folder}", file=sys.stderr)
    return f"{folder}{inside}{found['step'] or ''}"


def each(paths: str | list[str], weights: Weights) -> str | list[str]:
    """The same of several."""
    if isinstance(paths, str):
        return readable(paths, weights=weights)
    return [readable(path, weights=weights) for path in paths]


def local(path: str, where: str) -> str:
    """A path as it is. UserError for a URL, where nothing but a folder of this machine will do."""
    if is_url(path):
        raise UserError(
            f"{where}={path}: it is read from this machine alone. Fix: copy the folder here, or mount the bucket."
        )
    return path


def glimpsed(folder: pathlib.Path, url: str) -> pathlib.Path:
    """`folder`, or of what works in a bucket a copy with the configuration and the manifests alone."""
    if not url:
        return folder
    return copies.copied(url, _home(url), lambda name: name == "config.json" or mirror.is_marker(name))


def _home(url: str) -> pathlib.Path:
    return copies.home(url, default_cache())


def _own_folder(path: str, where: str) -> pathlib.Path:
    """UserError for the copy of a bucket: a run in it would not reach the bucket."""
    folder = expanded(path)
    about = home_of(folder.absolute()) / _ABOUT
    try:
        url = json.loads(about.read_text())["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder
    raise UserError(f"{where}={path} is this machine's copy of {url}. Fix: {where}={url}.")


def identity(home: pathlib.Path, url: str, fresh: str) -> str:
    """The name of this machine's working copy, made once from `fresh`. A copied disk has another host's name."""
    about = home / _ABOUT
    try:
        name = str(json.loads(about.read_text())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        home.mkdir(parents=True, exist_ok=True)
        about.write_text(json.dumps({"url": url, "id": fresh}))
        name = fresh
    return f"{name}@{socket.gethostname()}"
