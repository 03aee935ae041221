"""Shards for hosts that share no disk. In: a folder that some of them have, or none. Out: all have it, made once.

The first that has it, else the first of all, puts it into a bucket; those that lack it fetch it from there. Hosts say
to each other what they have, and which of them gives up, so that none waits for what will not come.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxlm import cached
from jaxlm.buckets import copies
from jaxlm.data.shards import index as indices
from jaxlm.errors import UserError


@dataclasses.dataclass(frozen=True)
class Hosts:
    """The hosts of a run. `url`: where folders are handed over; this is host `number`."""

    url: str
    number: int
    exchanged: Callable[[str], list[str]]  # what all say, however long it takes; UserError when one gives up
    give_up: Callable[[str], None]  # says why this one exchanges nothing more

    def hand_out(
        self, directory: Path, have: bool, make: Callable[[], object], log: Callable[[str], None]
    ) -> None:
        """All call it, with the same shards in mind. UserError when they cannot be made or carried."""
        name = directory.name
        said = [json.loads(text) for text in self.exchanged(json.dumps([name, have]))]
        if any(other != name for other, _ in said):
            raise UserError(
                f"The hosts read different corpora or tokenizers: {sorted({other for other, _ in said})}. Fix: the "
                "same files and versions everywhere, such as a corpus in a bucket."
            )
        holders = [number for number, (_, there) in enumerate(said) if there]
        if len(holders) == len(said):
            return
        giver, url = min(holders, default=0), f"{self.url}/{name}"
        if self.number == giver:
            make()
            log(f"{directory}: for the other hosts it is put to {url}")
            copies.put(directory, url, indices.INDEX)
        self.exchanged("it is there")
        if not have and self.number != giver:
            with cached.locked(directory, log):
                copies.fetched(url, directory)


@contextlib.contextmanager
def all_or_none(hosts: Hosts | None) -> Iterator[None]:
    """Within it hosts prepare corpora: what ends it on one of them is said to those that wait for it."""
    try:
        yield
    except Exception as error:
        if hosts is not None:
            hosts.give_up(str(error))
        raise
