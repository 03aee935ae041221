"""Who is still there when a peer of a run was lost. In: jax.distributed's store of keys. Out: the missing ones by name.

While a run trains, a thread of every process waits for the call and answers it: also one whose program waits in a
collective for the lost one. Guarantee: no process is named that answers within the patience; without several processes
nothing runs.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax._src import distributed as internal  # jax.distributed has no public door to its keys

_CALL, _NAME, _HERE = "jaxlm/roll_call", "jaxlm/name", "jaxlm/here"
_ROUND_MS = 1000
PATIENCE_S = 5.0
# The store lives in process 0: it leaves last, or the others would take it for the lost one.
_LAST_S = 2.0


@contextlib.contextmanager
def answering(say: Callable[[str], None]) -> Iterator[None]:
    """This process answers calls within it. Process 0 says who is there: jax, when a heartbeat stops, says numbers."""
    client, own = coordination()
    if client is None:
        yield
        return
    client.key_value_set(f"{_NAME}/{own}", f"{socket.gethostname()}, pid {os.getpid()}", allow_overwrite=True)
    if own == 0:
        there = [_name(client, number, 10_000) for number in range(processes())]
        say(f"together: {'; '.join(there)}")
    left = threading.Event()
    thread = threading.Thread(target=_answer, args=(client, own, left), name="roll call", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def missing() -> str:
    """Those that do not answer, as "process 1 (b, pid 77)"; "" where all do, or none was asked to. Takes PATIENCE_S."""
    client, own = coordination()
    if client is None:
        return ""
    deadline = time.monotonic() + PATIENCE_S
    lost = []
    try:
        if not said(client, f"{_NAME}/{own}"):
            return ""
        # First, since this process may be gone before its own thread has heard the call.
        client.key_value_set(f"{_HERE}/{own}", "1", allow_overwrite=True)
        client.key_value_set(_CALL, str(own), allow_overwrite=True)
        for other in range(processes()):
            left_ms = max(0, round(1000 * (deadline - time.monotonic())))
            if other != own and not said(client, f"{_HERE}/{other}", left_ms):
                lost.append(_name(client, other))
    except jax.errors.JaxRuntimeError:
        return "process 0, through which the others find each other"
    if own == 0:
        time.sleep(_LAST_S)
    return ", ".join(lost)


def _answer(client: Any, own: int, left: threading.Event) -> None:
    while not left.is_set():
        try:
            if said(client, _CALL, _ROUND_MS):
                client.key_value_set(f"{_HERE}/{own}", "1", allow_overwrite=True)
                return
        except jax.errors.JaxRuntimeError:  # the store is gone: who needs to know learns it elsewhere
            return


def said(client: Any, key: str, wait_ms: int = 0) -> str:
    """The value of a key, or "" where nobody set it in time."""
    try:
        return client.blocking_key_value_get(key, wait_ms) if wait_ms else client.key_value_try_get(key)
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" in str(error) or "NOT_FOUND" in str(error):
            return ""
        raise


def _name(client: Any, process: int, wait_ms: int = 0) -> str:
    return f"process {process} ({said(client, f'{_NAME}/{process}', wait_ms) or 'of no name yet'})"


def coordination() -> tuple[Any, int]:
    """(what keeps keys for all processes, this process' number); (None, 0) where there is one process."""
    state = internal.global_state
    return (state.client, state.process_id) if processes() > 1 else (None, 0)


def processes() -> int:
    """Of this run."""
    return internal.global_state.num_processes or 1
