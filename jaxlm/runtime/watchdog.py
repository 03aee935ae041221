"""Notices a run that hangs. In: a beat per step. Out: the stacks of all threads in `workdir/crash/`, and one
line.

Guarantee: it never stops a run unless `abort` says so; it costs an assignment per step.
"""

import faulthandler
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxlm.errors import EXIT_RESUMABLE


class Watchdog:
    """A context manager around the training loop. `minutes=0` does nothing."""

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        minutes: float,
        abort: bool = False,
        say: Callable[[str], None] = print,
        exit_now: Callable[[int], Any] = os._exit,
    ) -> None:
        self._folder, self._seconds = Path(workdir) / "crash", 60.0 * minutes
        self._abort, self._say, self._exit_now = abort, say, exit_now
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._step, self._since = 0, time.monotonic()

    def beat(self, step: int) -> None:
        """The loop is alive, and at this step."""
        self._step, self._since = step, time.monotonic()

    def __enter__(self) -> "Watchdog":
        self.beat(self._step)
        if self._seconds:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        reported = -1.0
        while not self._stop.wait(min(self._seconds / 4, 10.0)):
            since = self._since
            if time.monotonic() - since >= self._seconds and since != reported:
                reported = since
                self._report()
                if self._abort:
                    self._exit_now(EXIT_RESUMABLE)

    def _report(self) -> None:
        path = self._folder / f"stacks-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
        minutes = (time.monotonic() - self._since) / 60
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(path, "w") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            where = f"the stacks of all threads are in {path}"
        except OSError as error:
            where = f"the stacks could not be written ({error.strerror})"
        end = "; ending, restartable" if self._abort else ""
        self._say(f"WARNING: no step for {minutes:.1f} minutes after step {self._step}; {where}{end}")
