"""A run whose folder is in a bucket. In: its URL and its working copy. Out: the bucket follows the copy.

The main process owns the bucket's folder (buckets/owner.py), brings the copy up to date, shows every few seconds that
it lives, and puts there what has changed: small files then, checkpoints when they are committed. Guaranteed: a
checkpoint that is not whole in the bucket is none here either, so what a run says of its newest good step is true of
both; a run that lost the bucket to another one stops.
"""

import contextlib
import os
import secrets
import signal
import threading
from collections.abc import Callable
from typing import Any

from jaxlm.buckets.bucket import Bucket, BucketError
from jaxlm.buckets.mirror import MARKER, Mirror
from jaxlm.buckets.owner import Owner, Superseded
from jaxlm.config import folder, remote
from jaxlm.config.folder import RunFolder
from jaxlm.errors import UserError
from jaxlm.runtime import distributed, fault

Say = Callable[[str], None]
Hook = Callable[[str, int], None]


def opened(scope: contextlib.ExitStack, place: RunFolder, *, changes: bool) -> tuple[RunFolder, Hook]:
    """(the run folder up to date, the hook of its checkpoints). All processes call it; `changes`: the run writes.

    `scope` is left when everything is written.
    """
    if not place.url:
        return place, fault.at
    if not changes:
        return RunFolder(remote.glimpsed(place.root, place.url), place.url), fault.at
    following = Following(place)
    with distributed.ending_together():
        if distributed.is_main():
            scope.enter_context(following)
    with distributed.ending_together():
        following.check_shared()
    return place, following.hook


class Following:
    """The main process' part, a context manager; the others only look whether they see its copy."""

    _owner: Owner

    def __init__(self, place: RunFolder, say: Say = lambda line: print(line, flush=True)) -> None:
        self._place, self._say = place, say
        self._home = remote.home_of(place.root)
        self._bucket = Bucket(place.url)
        self._mirror = Mirror(self._bucket, place.root, self._home / "work.json")
        self._ended, self._followed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="bucket", daemon=True)
        self._failing = False
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "Following":
        url = self._place.url
        self._owner = Owner(self._bucket, remote.identity(self._home, url, secrets.token_hex(16)))
        with contextlib.ExitStack() as undone:
            failure = undone.enter_context(
                folder.held(self._home / ".lock", url, f"{os.getpid()} of this machine")
            )
            try:
                folder.check_names(self._bucket.listed(), url)
                self._owner.claim(alone=failure is None, say=self._say)
                self._mirror.guard = self._owner.check
                self._thread.start()
                undone.callback(self._ended.set)
                self._mirror.pull()
            except BucketError as error:
                raise UserError(
                    f"{error}. Fix: check the address and the access, or name another --workdir."
                ) from error
            self._place.root.mkdir(parents=True, exist_ok=True)
            self._followed.set()
            self._held = undone.pop_all()
        return self

    def hook(self, phase: str, step: int) -> None:
        """Of checkpoints: a committed one goes into the bucket, or is committed no more; removed ones leave it."""
        if phase == "save_committed":
            try:
                self._push(before_markers=lambda: fault.at("save_uploaded", step))
            except OSError:
                (self._place.checkpoints / str(step) / MARKER).unlink(missing_ok=True)
                raise
        elif phase == "save_pruned":
            self._push()
        fault.at(phase, step)

    def check_shared(self) -> None:
        """UserError where another process of the run does not see the copy that the main one works in."""
        number = distributed.from_main(secrets.randbelow(2**31))
        seen = self._home / "start"
        if distributed.is_main():
            seen.write_text(str(number))
        distributed.first_problem("")  # all wait here for the main one
        if not seen.exists() or seen.read_text() != str(number):
            raise UserError(
                f"{self._place.url}: the processes of this run do not share one cache folder: {self._home} is not the "
                "same everywhere. Fix: JAXLM_CACHE=DIR with a folder that all of them see, or a mounted --workdir."
            )

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with self._held:
            try:
                self._push()
                self._owner.release()
            except (OSError, Superseded) as error:
                self._say(f"WARNING: {error}; what is behind the last checkpoint stays in {self._place.root}")

    def _push(self, **how: Any) -> None:
        try:
            self._mirror.push(**how)
        except Superseded as error:
            raise BucketError(str(error)) from error

    def _follow(self) -> None:
        """Until the end: shows that the owner lives, and puts small files."""
        while not self._ended.wait(self._owner.beat_s):
            try:
                self._owner.beat()
                if self._followed.is_set():
                    self._mirror.push(small=True)
                self._failing = False
            except Superseded as error:
                self._say(f"WARNING: {error}; it stops")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except OSError as error:
                if not self._failing:
                    self._say(f"WARNING: {error}; it is tried again")
                self._failing = True
