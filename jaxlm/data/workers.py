"""Worker processes for preparing data. In: a wish (None: as many as cores). Out: a process pool that is never orphaned.

Workers are spawned (JAX in the parent has threads, which a fork would break), use one thread each, and end themselves
when the parent dies, be it by SIGKILL.
"""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from typing import Any

from jaxlm.errors import UserError


def count(wish: int | None) -> int:
    """Number of processes: the wish, or the cores this process may use; 1 where workers cannot be spawned."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main is not None and not os.path.isfile(
        main
    ):  # a script read from stdin cannot be imported by a worker
        return 1
    if wish is not None:
        return max(1, wish)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 64)


def check_main() -> None:
    """UserError in a worker that runs the user's whole script again, as it does to know what the script defines."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            "this script trains as soon as it is imported, and the processes that tokenise import it. Fix: put what it "
            'does below   if __name__ == "__main__":'
        )


def pool(processes: int) -> concurrent.futures.ProcessPoolExecutor:
    """A pool of spawned workers, each bound to the life of this process."""
    return concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start
    )


def _start() -> None:
    # A launcher's signals to all processes are for the parent; without it this one ends by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_later(number: int, frame: Any) -> None:
    """Not before the parent, which would take it for a worker that was killed."""
    time.sleep(1)
    os._exit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
