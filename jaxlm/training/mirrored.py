"""A run whose folder is in a bucket. In: its URL and its working copy. Out: the bucket follows the copy.

The main process owns the bucket's folder (buckets/owner.py), brings the copy up to date, shows every few seconds that
it lives, and puts there what has changed: small files then, checkpoints when they are committed. Where the processes
share no disk, each has a copy of its own and sends what it wrote of a checkpoint (checkpoint/apart.py). Guaranteed: a
checkpoint that is not whole in the bucket is none here either, so what a run says of its newest good step is true of
both; a run that lost the bucket to another one stops.
"""

import contextlib
import functools
import hashlib
import math
import os
import secrets
import signal
import threading
from collections.abc import Callable
from typing import Any

import jax

from jaxlm.buckets import mirror
from jaxlm.buckets.bucket import Bucket, BucketError
from jaxlm.buckets.mirror import MARKER, Mirror
from jaxlm.buckets.owner import Owner, Superseded
from jaxlm.checkpoint.apart import Carrier
from jaxlm.checkpoint.manifest import Check
from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import folder, remote
from jaxlm.config.folder import RunFolder
from jaxlm.data.shards.handed import Hosts
from jaxlm.errors import UserError
from jaxlm.runtime import distributed, fault, messages

Say = Callable[[str], None]
_CORPUS = "corpus"


class Staying:
    """A run whose folder nothing follows."""

    disks = 1  # of the processes
    carrier: Carrier | None = None  # of checkpoints of several disks
    hosts: Hosts | None = None  # of a corpus on several disks

    def __init__(self, place: RunFolder) -> None:
        self.place = place

    def checkpoints(self, keep: Keep, *, say: Say, check: Check) -> Checkpoints:
        """Those of the run, for writing."""
        where, carried = self.place.checkpoints, {"fetch": self.fetch, "carrier": self.carrier}
        return Checkpoints(where, keep, say=say, hook=self.hook, check=check, **carried)

    def hook(self, phase: str, step: int) -> None:
        """Of checkpoints."""
        fault.at(phase, step)

    def fetch(self, step: int, *inside: str) -> None:
        """All is here."""


def opened(scope: contextlib.ExitStack, place: RunFolder, *, changes: bool) -> Staying:
    """What follows the run folder, which is up to date. All processes call it; `changes`: the run writes.

    `scope` is left when everything is written.
    """
    if not place.url:
        return Staying(place)
    if not changes:
        return Staying(RunFolder(remote.glimpsed(place.root, place.url), place.url))
    following = Following(place)
    with distributed.ending_together():
        following.look()
    with distributed.ending_together():
        if distributed.is_main():
            scope.enter_context(following)
    following.join()
    with distributed.ending_together():
        if following.apart and not distributed.is_main():
            scope.enter_context(following)
    return following


class Following(Staying):
    """A context manager of the main process, and of the others where they have copies of their own."""

    apart = False  # no process sees the disk of another

    def __init__(self, place: RunFolder, say: Say = lambda line: print(line, flush=True)) -> None:
        super().__init__(place)
        self._say = say
        self._home = remote.home_of(place.root)
        self._bucket = Bucket(place.url)
        self._mirror = Mirror(self._bucket, place.root, self._home / "work.json")
        self._owner = Owner(self._bucket, "")
        self.number, self.count = jax.process_index(), jax.process_count()
        self._ended, self._followed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="bucket", daemon=True)
        self._failing = False
        self._held = contextlib.ExitStack()

    def look(self) -> None:
        """Finds out who shares a disk. UserError unless all do, or none."""
        if self.count == 1:
            return
        name = f"start-{distributed.from_main(secrets.randbelow(2**31))}-"
        mine, problem = self._home / f"{name}{self.number}", ""
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            mine.touch()
        except OSError as error:
            problem = f"{mine} cannot be written ({error.strerror}). Fix: choose another place with JAXLM_CACHE=DIR."
        if problem := distributed.first_problem(problem):
            raise UserError(problem)
        seen = distributed.total(len(list(self._home.glob(f"{name}*"))))
        mine.unlink()
        if seen == self.count:
            self.apart, self.disks, self.carrier = True, self.count, self
            where, give_up = (
                f"{self.place.url}/{mirror.PREPARED}",
                functools.partial(messages.give_up, _CORPUS),
            )
            self.hosts = Hosts(where, self.number, _of_corpora, give_up)
        where = int(hashlib.sha256(os.fsencode(self.place.root)).hexdigest()[:7], 16)
        elsewhere = distributed.total(abs(where - distributed.from_main(where)))
        if seen not in (self.count, self.count**2) or elsewhere:
            raise UserError(
                f"{self.place.url}: the processes of this run have different cache folders, this one "
                f"{self._home}, or only some of them share a disk. Fix: the same JAXLM_CACHE=DIR for all, on a "
                "disk that all of them see, or on one of its own for each; or a mounted --workdir."
            )

    def join(self) -> None:
        """The others learn the number of the main one's claim."""
        number = distributed.from_main(self._owner.number)
        if self.number:
            self._owner.join(number)
        self._mirror.guard = self._owner.check

    def __enter__(self) -> "Following":
        identity = remote.identity(self._home, self.place.url, secrets.token_hex(16))
        with contextlib.ExitStack() as undone:
            named = f"{os.getpid()} of this machine"
            failure = undone.enter_context(folder.held(self._home / ".lock", self.place.url, named))
            try:
                if self.number == 0:
                    self._own(identity, undone, alone=failure is None)
                self._mirror.pull(self._at_once)
            except BucketError as error:
                raise UserError(
                    f"{error}. Fix: check the address and the access, or name another --workdir."
                ) from error
            self.place.root.mkdir(parents=True, exist_ok=True)
            self._followed.set()
            self._held = undone.pop_all()
        return self

    def _own(self, identity: str, undone: contextlib.ExitStack, *, alone: bool) -> None:
        """Becomes the owner, and shows that it lives."""
        folder.check_names(self._bucket.listed(), self.place.url)
        self._owner = Owner(self._bucket, identity)
        self._owner.claim(alone=alone, say=self._say)
        self._mirror.guard = self._owner.check
        self._thread.start()
        undone.callback(self._ended.set)

    def _at_once(self, name: str) -> bool:
        """Whether a start fetches it: checkpoints wait until they are asked for, unless others read this copy too."""
        return self._shared or not name.startswith(mirror.STEPS) or mirror.is_marker(name)

    @property
    def _shared(self) -> bool:
        return self.count > 1 and not self.apart

    def hook(self, phase: str, step: int) -> None:
        """Of checkpoints: a committed one goes into the bucket, or is committed no more; removed ones leave it."""
        if self.number == 0:
            self._follow_checkpoint(phase, step)
        fault.at(phase, step)

    def _follow_checkpoint(self, phase: str, step: int) -> None:
        if phase == "save_started":  # what an interrupted save of it left there
            self._told(lambda: self._mirror.clear(_folder(step)))
        elif phase == "save_committed":
            try:
                self._push(before_markers=lambda: fault.at("save_uploaded", step))
            except OSError:
                (self.place.checkpoints / str(step) / MARKER).unlink(missing_ok=True)
                raise
        elif phase == "save_pruned":
            self._push()

    def send(self, step: int) -> None:
        """Puts what this process wrote of a step into the bucket."""
        self._told(lambda: self._mirror.send(_folder(step)))
        if self.number:
            fault.at("save_uploaded", step)

    def fetch(self, step: int, *inside: str) -> None:
        """Brings a step, or files and folders in it, from the bucket."""
        if not self._shared:
            self._mirror.fetch(_folder(step), inside)

    def exchanged(self, text: str, patience_s: float) -> list[str]:
        """What every process says."""
        return messages.exchanged("checkpoints", text, patience_s=patience_s)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self.number:
            self._held.close()
            return
        self._thread.join()
        with self._held:
            try:
                self._push()
                self._owner.release()
            except (OSError, Superseded) as error:
                self._say(f"WARNING: {error}; what is behind the last checkpoint stays in {self.place.root}")

    def _push(self, **how: Any) -> None:
        self._told(lambda: self._mirror.push(**how))

    def _told(self, work: Callable[[], None]) -> None:
        try:
            work()
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


def _of_corpora(text: str) -> list[str]:
    """What every process says while corpora are prepared, which may take hours."""
    try:
        return messages.exchanged(_CORPUS, text, patience_s=math.inf)
    except messages.GivenUp as why:
        raise UserError(f"The corpus cannot be prepared for all hosts. {why}") from None


def _folder(step: int) -> str:
    return f"{mirror.STEPS}{step}"
