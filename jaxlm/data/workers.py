"""Worker processes for preparing data. In: a wish (None: as many as cores). Out: a process pool that is never orphaned.

Workers are spawned (JAX in the parent has threads, which a fork would break), use one thread each, and end themselves
when the parent dies, be it by SIGKILL.
"""

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading


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


def pool(processes: int) -> concurrent.futures.ProcessPoolExecutor:
    """A pool of spawned workers, each bound to the life of this process."""
    return concurrent.futures.ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start
    )


def _start() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
