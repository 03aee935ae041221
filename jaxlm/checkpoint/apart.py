"""A save of several processes that share no disk. In: what each of them wrote on its own. Out: one checkpoint.

Each process sends the files that it wrote to where the first one sees them, and says their hashes. The first joins the
indices of all, writes the manifest, and sends it last: then the step counts. Guarantee: whatever one of them meets, all
of them say, and the step is committed for all or for none.
"""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any, Protocol

from jaxlm.checkpoint import manifest, storage
from jaxlm.checkpoint.folders import Folders

_PATIENCE_S = 600.0  # for the slowest to send its files, and four times as long as this one took


class Carrier(Protocol):
    """How the processes reach each other. `number` of `count`."""

    number: int
    count: int

    def send(self, step: int) -> None:
        """Puts the files of a step, as they are on this disk, where all can fetch them. OSError where that fails."""
        ...

    def fetch(self, step: int, *inside: str) -> None:
        """Brings what is there of a step, or of files and folders inside, and not here. OSError where that fails."""
        ...

    def exchanged(self, text: str, patience_s: float) -> list[str]:
        """What every process says."""
        ...


def commit(
    folders: Folders,
    step: int,
    entries: dict[str, Any],
    carrier: Carrier,
    written: Callable[[], None],
    committed: Callable[[], None],
) -> None:
    """`written` waits for this process' arrays; `committed` of the first makes the step count where all see it; the
    others call it later.

    All processes call it. OSError, the same on all, when one of them failed.
    """
    started, parts = time.monotonic(), [""]

    def mine() -> str:
        written()
        if carrier.number:
            storage.indexed(folders.path(step), carrier.number)
        files = folders.described(step)
        carrier.send(step)
        return json.dumps(files)

    def whole() -> str:
        if not carrier.number:
            carrier.fetch(step, *storage.indices(carrier.count))
            storage.joined(folders.path(step), carrier.count)
            files = {name: about for part in parts for name, about in json.loads(part).items()}
            changed = folders.described(step, without=[name for name in files if storage.stays(name)])
            folders.complete(step, {**files, **changed}, **entries)
            committed()
        return ""

    for work in (mine, whole):
        patience_s = _PATIENCE_S + 4 * (time.monotonic() - started)
        parts = _together(work, carrier, patience_s)
    if carrier.number:
        with contextlib.suppress(
            OSError
        ):  # it counts already; without its manifest it is removed here, as an old one
            carrier.fetch(step, manifest.FILE)
        committed()


def _together(work: Callable[[], str], carrier: Carrier, patience_s: float) -> list[str]:
    """What the work of every process came to. OSError, the same on all, where one failed."""
    failed, result = "", ""
    try:
        result = work()
    except Exception as error:
        failed = first_line(error)
    said = carrier.exchanged(json.dumps([failed, result]), patience_s)
    for number, (problem, _) in enumerate(map(json.loads, said)):
        if problem:
            raise OSError(f"process {number}: {problem}")
    return [result for _, result in map(json.loads, said)]


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
