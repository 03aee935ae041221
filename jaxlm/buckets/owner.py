"""Who trains in a bucket: one run at a time. In: a bucket. Out: an `Owner`, or a UserError that names who is inside.

Numbered objects take the place of a lock, `.owner/<number>.json`: the highest says who is inside, and a number can be
made once only (a conditional PUT), so of several starts one wins. The owner writes its object again every `beat_s`;
who starts and finds one that is not released waits `patience_s` for it to change, by its own clock. No change: the
owner is gone, and the next number is taken. Whoever was cut off for that long finds the higher number, and stops.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from jaxlm.buckets.bucket import Bucket
from jaxlm.errors import UserError

FOLDER = ".owner"
BEAT_S, PATIENCE_S = 15.0, 75.0


class Superseded(Exception):
    """Another run took the folder over."""


class Owner:
    """This process' right to write. `mirror`: the local folder it works in, as a name that no other has."""

    def __init__(
        self, bucket: Bucket, mirror: str, *, beat_s: float = BEAT_S, patience_s: float = PATIENCE_S
    ) -> None:
        self.beat_s, self.patience_s = beat_s, patience_s
        self._bucket, self._mirror = bucket, mirror
        self._number, self._beats = 0, 0

    def claim(self, *, alone: bool, say: Callable[[str], None]) -> None:
        """Becomes the owner. `alone`: no other process of this machine works in our mirror, so its last owner is dead.

        UserError when another run is inside.
        """
        while True:
            number, found = self._newest()
            ours = alone and found.get("mirror") == self._mirror
            if number and not found.get("released") and not ours:
                self._wait_for_silence(number, found, say)
            if self._bucket.create(_name(number + 1), self._text()):
                break
        self._number = number + 1
        for name in self._bucket.listed(FOLDER):
            if _number(name) < self._number:
                self._bucket.remove(name)

    @property
    def number(self) -> int:
        """Of the claim; another process of the same run checks it by this number."""
        return self._number

    def join(self, number: int) -> None:
        """Takes part in the claim of another process, which beats and releases it."""
        self._number = number

    def beat(self) -> None:
        """Shows that the owner lives. Superseded when another one has come."""
        self.check()
        self._beats += 1
        self._bucket.write(_name(self._number), self._text())

    def check(self) -> None:
        """Superseded when another owner has come; asked before whatever makes a checkpoint count."""
        if self._newest_number() > self._number:
            raise Superseded(
                f"another run trains in {self._bucket.url} now: this one was cut off from it for too long"
            )

    def release(self) -> None:
        """Leaves: the next start need not wait."""
        self.check()
        self._bucket.write(_name(self._number), self._text(released=True))

    def _wait_for_silence(self, number: int, found: dict[str, Any], say: Callable[[str], None]) -> None:
        who = f"process {found.get('process', '(unknown)')} on {found.get('host', '(unknown)')}"
        say(
            f"{self._bucket.url}: {who} did not leave it; waiting up to {self.patience_s:.0f} s to see whether it lives"
        )
        until = time.monotonic() + self.patience_s
        while time.monotonic() < until:
            time.sleep(min(self.beat_s / 3, 2.0))
            now, seen = self._newest()
            if seen.get("released") or not now:
                return
            if (now, seen) != (number, found):
                raise UserError(
                    f"{self._bucket.url} is in use by {who}. Fix: wait for it, stop it, or name another --workdir."
                )

    def _newest_number(self) -> int:
        return max(map(_number, self._bucket.listed(FOLDER)), default=0)

    def _newest(self) -> tuple[int, dict[str, Any]]:
        """(0, {}) when nobody was ever here."""
        number = self._newest_number()
        try:
            found = json.loads(self._bucket.read(_name(number))) if number else {}
        except (FileNotFoundError, ValueError):
            found = {}
        return number, found if isinstance(found, dict) else {}

    def _text(self, *, released: bool = False) -> bytes:
        said = {"host": socket.gethostname(), "process": os.getpid(), "mirror": self._mirror}
        return json.dumps({**said, "beats": self._beats, "released": released}).encode()


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _number(name: str) -> int:
    digits = name.removeprefix(f"{FOLDER}/").removesuffix(".json")
    return int(digits) if digits.isdecimal() else 0
