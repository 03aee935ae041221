"""A long job in parts of a fixed number of records. In: records in order, a place, and what makes the job this one.
Out: part-00000.jsonl, part-00001.jsonl, ... in the place, or all of them joined into one file.

Guaranteed: a part appears whole or not at all, is made once, and holds what its own records say, whatever was killed
before and whoever made the others; parts of another job are refused. manifest.json says whose they are.
"""

import collections
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxlm.errors import UserError
from jaxlm.infer.places import Place, Write

MANIFEST = "manifest.json"
Say = Callable[[str], None]
Compute = Callable[
    [int, list[Any]], Write
]  # number of the first record, records -> what writes their results
Parts = Callable[
    [], Iterator[pathlib.Path]
]  # all, anew at every call, each there until the next is asked for
Join = Callable[[Parts, pathlib.Path], None]


@dataclasses.dataclass(frozen=True)
class Job:
    """`about` is compared with the manifest: what is in it decides the bytes of the results."""

    place: Place
    about: Mapping[str, Any]
    size: int  # records of a part
    ending: str  # of the names of parts, such as .jsonl
    share: tuple[int, int] = (1, 1)  # number of this process, from 1, of all
    say: Say = print

    def name(self, number: int) -> str:
        """Of a part's file."""
        return f"part-{number:05d}{self.ending}"

    def kept(self) -> dict[str, Any]:
        """The manifest; {} where the job begins. UserError for another job's."""
        text = self.place.read(MANIFEST)
        if text is None:
            if any(name.startswith("part-") for name in self.place.names()):
                raise UserError(
                    f"{self.place.shown} holds parts without a {MANIFEST}, which says whose they are. Fix: another "
                    "--output, or delete that folder."
                )
            return {}
        try:
            found = json.loads(text)
            theirs = dict(found["job"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.place.shown}/{MANIFEST} is damaged. Fix: delete that folder; the job begins anew."
            ) from error
        if differing := _differences(theirs, json.loads(json.dumps(self.about))):
            if found.get("joined"):
                self.place.clear(MANIFEST)
                return {}
            raise UserError(
                f"{self.place.shown} holds the parts of another job: {'; '.join(differing)}. Fix: the line of that job "
                "goes on with it; for this one name another --output, or delete that folder."
            )
        return found

    def total(self, records: int) -> int:
        """Parts of so many records."""
        return -(-records // self.size)

    def there(self, total: int) -> set[int]:
        """Numbers of the parts that are made."""
        names = self.place.names()
        return {number for number in range(total) if self.name(number) in names}

    def run(self, records: Iterator[Any], count: int, compute: Compute) -> bool:
        """Makes the parts of this share that are not there; whether all parts of all shares are there then."""
        total = self.total(count)
        there, (mine, shares) = self.there(total), self.share
        if there:
            self.say(f"resumed: {len(there):,} of {total:,} parts were there")
        wanted = [n for n in range(total) if n % shares == mine - 1 and n not in there]
        for number in range(wanted[-1] + 1 if wanted else 0):
            part = itertools.islice(records, self.size)
            if number not in wanted:
                collections.deque(part, maxlen=0)
                continue
            rows = list(part)
            if len(rows) != min(self.size, count - number * self.size):
                raise UserError(
                    "--input: its files changed while they were read. Begin again with files that stay."
                )
            self._keep(number, count, compute(number * self.size, rows))
            if total > 1:
                self.say(f"part {number + 1:,} of {total:,} is there")
        return len(self.there(total)) == total

    def join(self, count: int, to: Place, name: str, joined: Join) -> None:
        """Makes one file of all parts and removes them; of several shares the manifest stays, so that one that is
        started again finds the work done."""
        names = [self.name(number) for number in range(self.total(count))]
        try:
            to.put(name, lambda path: joined(lambda: self._fetched(names), path))
        except (UserError, FileNotFoundError):
            if self.kept().get("joined"):  # by another share, which was faster
                return
            raise
        done = json.dumps({"job": self.about, "records": count, "joined": name}).encode()
        self.place.put(MANIFEST, lambda path: _write(path, done))
        self.clear()

    def clear(self) -> None:
        """Removes what is left of a job that is joined."""
        if self.share == (1, 1):
            self.place.clear(MANIFEST)
            return
        for name in self.place.names() - {MANIFEST}:
            self.place.remove(name)

    def _fetched(self, names: list[str]) -> Iterator[pathlib.Path]:
        for name in names:
            with self.place.fetched(name) as path:
                yield path

    def _keep(self, number: int, count: int, write: Write) -> None:
        """The first part of a job comes with its manifest; of two jobs that begin at once one is refused here."""
        if not self.kept():
            self.place.create(MANIFEST, json.dumps({"job": self.about, "records": count}).encode())
            self.kept()
        self.place.put(self.name(number), write)


def concatenated(parts: Parts, to: pathlib.Path) -> None:
    """One file after the other."""
    with to.open("wb") as out:
        for path in parts():
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    out.write(block)


def _write(path: pathlib.Path, content: bytes) -> None:
    path.write_bytes(content)


def _differences(theirs: Any, ours: Any, name: str = "") -> list[str]:
    """What differs, by name."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        names = sorted({*theirs, *ours})
        return [
            line
            for key in names
            for line in _differences(theirs.get(key), ours.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if theirs == ours else [f"{name} was {_short(theirs)} and is {_short(ours)}"]


def _short(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= 80 else f"{said[:40]} ... {said[-36:]}"
