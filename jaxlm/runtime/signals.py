"""Stopping on request. In: SIGTERM, SIGINT, SIGUSR1 (Slurm's early warning). Out: `reached(step)` turns true.

The loop finishes its step, saves and exits with 75. A second signal ends the process at once (130 after
SIGINT, else 143); the last committed checkpoint stays good. Guarantee: the hosts of a run all stop after the
same step. Before the loop a signal ends the process at once with 75: what was finished is kept.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from jaxlm.errors import EXIT_RESUMABLE

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Launchers signal the process group and the process: two signals within this time are one request.
_SAME_REQUEST_S = 0.5


class EndingAtOnce:
    """A context manager for everything before the loop, which may take hours and is resumable at any moment.

    A thread ends the process: a handler would wait for the end of a call into C, such as the training of a tokenizer.
    On several hosts SIGTERM belongs to jax.distributed, and stops the run after its first step.
    """

    def __enter__(self) -> "EndingAtOnce":
        self._earlier = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        self._reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._writer, self._earlier_fd = writer, signal.set_wakeup_fd(writer.fileno())
        threading.Thread(target=self._wait, name="signals", daemon=True).start()
        return self

    def hand_over(self) -> None:
        """From here on others handle the signals; enter them first."""
        signal.set_wakeup_fd(self._earlier_fd)
        self._writer.close()

    def __exit__(self, *_: object) -> None:
        if self._writer.fileno() >= 0:
            self.hand_over()
        for number, earlier in self._earlier.items():
            signal.signal(number, earlier)

    def _wait(self) -> None:
        with self._reader:
            while number := self._reader.recv(1):
                if number[0] in _SIGNALS:
                    name = signal.Signals(number[0]).name
                    _tell(f"{name}: ending now; what is finished is kept, the same command goes on")
                    os._exit(EXIT_RESUMABLE)


class StopRequest:
    """A context manager that installs the handlers. Enter it after distributed.start().

    `say` is told once, from `reached`: a handler itself may run in the middle of another write.
    """

    def __init__(
        self, *, say: Callable[[str], None] | None = print, exit_now: Callable[[int], Any] = os._exit
    ) -> None:
        self._say, self._exit_now = say, exit_now
        self._earlier: dict[int, Any] = {}
        self._first: float | None = None
        self._distributed = False
        self._calls = 0

    @property
    def requested(self) -> bool:
        """Whether this process was asked to stop; the others may not know yet."""
        return self._first is not None

    def reached(self, step: int) -> bool:
        """Whether to stop after `step`. All hosts answer true at the same step; call it once per step."""
        stop = self.requested
        if self._distributed:
            from jax.experimental import multihost_utils

            # jax stops at the call that follows the last one seen, or at 1 before the first: a resumed run's steps
            # begin beyond that, so it is told the number of the call.
            self._calls += 1
            stop = multihost_utils.reached_preemption_sync_point(self._calls)
        if stop and self._say is not None:
            self._say(f"asked to stop: saving after step {step}")
            self._say = None
        return stop

    def __enter__(self) -> "StopRequest":
        import jax  # not above: EndingAtOnce comes before the seconds that it takes

        self._distributed = jax.distributed.is_initialized()
        # jax.distributed has a SIGTERM handler of its own, in C++, that tells the other hosts: it must stay.
        caught = [s for s in _SIGNALS if not (self._distributed and s == signal.SIGTERM)]
        if threading.current_thread() is not threading.main_thread():
            caught = []  # only the main thread may have handlers
        for number in caught:
            self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, earlier in self._earlier.items():
            signal.signal(number, earlier)
        self._earlier.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        if self._first is None:
            self._first = now
            _tell(f"{name}: stopping after this step with a checkpoint; once more stops at once")
            if self._distributed:
                os.kill(os.getpid(), signal.SIGTERM)
        elif now - self._first > _SAME_REQUEST_S:
            _tell(f"{name} again: stopping now")
            self._exit_now(130 if number == signal.SIGINT else 143)


def end_on_term() -> None:
    """SIGTERM ends the process as an exception does, so that nothing half written stays."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def interrupt(code: int) -> NoReturn:
    """Instead of ending a process that has more to do than this run, a notebook say."""
    raise KeyboardInterrupt(f"stopped at once, exit code {code}")


def _tell(text: str) -> None:
    """Straight to the descriptor: a handler may run in the middle of another write to sys.stderr."""
    below = "\n" if os.isatty(2) else ""  # the live line, which the cursor stands behind
    os.write(2, f"{below}{text}\n".encode())
