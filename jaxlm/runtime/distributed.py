"""Several hosts as one run. In: the environment. Out: jax.distributed is up where there is more than one process.

Detected: JAXLM_COORDINATOR + JAXLM_NUM_PROCESSES + JAXLM_PROCESS_ID, Slurm (srun with several tasks), Open MPI,
TPU pods. A single process stays as it is. Guarantee: when a peer is lost, the process ends and does not wait for
ever: with the restartable code 75 where the collective fails, aborted by jax (SIGABRT) after the heartbeat where
it blocks.
"""

import contextlib
import glob
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxlm.errors import EXIT_RESUMABLE, UserError
from jaxlm.runtime import roll_call

# jax waits 100 s; a peer that hangs costs the whole pod that long. $JAXLM_HEARTBEAT_S has precedence.
HEARTBEAT_S = 60
_NOT_A_PEER = ("RESOURCE_EXHAUSTED", "Disallowed ")  # memory; jax.transfer_guard
_EXPLICIT = ("JAXLM_COORDINATOR", "JAXLM_NUM_PROCESSES", "JAXLM_PROCESS_ID")


def start(environment: Mapping[str, str] = os.environ) -> bool:
    """Initialises jax.distributed where the environment asks for it, and says whether. Call it first."""
    arguments = plan(environment)
    if arguments is None or jax.distributed.is_initialized():
        return False
    heartbeat = int(environment.get("JAXLM_HEARTBEAT_S") or HEARTBEAT_S)
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=heartbeat, **arguments)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"Could not join the other processes ({_first_line(error)}). Check that all of them are "
            "started, that "
            "the coordinator's port can be reached, and JAXLM_COORDINATOR=host:port, JAXLM_NUM_PROCESSES and "
            "JAXLM_PROCESS_ID (0 ... N-1) where they are used."
        ) from error
    return True


def plan(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments of jax.distributed.initialize: {} lets jax detect the cluster, None is a single process."""
    given = [name for name in _EXPLICIT if environment.get(name)]
    if given:
        return _explicit(environment, given)
    for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"):
        if environment.get(name, "1").isdecimal() and int(environment.get(name, "1")) > 1:
            return {}
    if environment.get("JAX_PLATFORMS") == "cpu":
        return None
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return {}
    return {} if _on_tpu_machine(environment) else None


def _explicit(environment: Mapping[str, str], given: list[str]) -> dict[str, Any]:
    missing = [name for name in _EXPLICIT if name not in given]
    if missing:
        raise UserError(f"{', '.join(given)} is set, {', '.join(missing)} is not; set all three or none.")
    try:
        count, index = int(environment[_EXPLICIT[1]]), int(environment[_EXPLICIT[2]])
    except ValueError:
        raise UserError(f"{_EXPLICIT[1]} and {_EXPLICIT[2]} must be whole numbers.") from None
    if not 0 <= index < count:
        raise UserError(f"{_EXPLICIT[2]}={index}: allowed are 0 to {_EXPLICIT[1]}-1 = {count - 1}.")
    return {"coordinator_address": environment[_EXPLICIT[0]], "num_processes": count, "process_id": index}


def _on_tpu_machine(environment: Mapping[str, str]) -> bool:
    """A TPU VM: chips and libtpu. Whether it is part of a pod, jax asks the machine's metadata."""
    if environment.get("TPU_SKIP_MDS_QUERY") or importlib.util.find_spec("libtpu") is None:
        return False
    return bool(glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*"))


def is_main() -> bool:
    """Whether this process writes files and logs. Touches the accelerator; call after start()."""
    return jax.process_index() == 0


def agree(flag: bool) -> bool:
    """The main process's answer, on all hosts. Waits for the devices where there are several hosts."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(flag))


def from_main(number: int) -> int:
    """The main process's number, on all hosts."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(number))


def total(number: int) -> int:
    """The sum of the numbers of all hosts, each below 2^256, modulo 2^256."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    mine = np.frombuffer(number.to_bytes(32, "little"), np.uint8)
    every = np.asarray(multihost_utils.process_allgather(mine))
    return sum(int.from_bytes(one.tobytes(), "little") for one in every) % 2**256


def first_problem(problem: str) -> str:
    """The first text that is not empty among those of all hosts (cut to 512 bytes), on all hosts; "" where all are."""
    if jax.process_count() == 1:
        return problem
    from jax.experimental import multihost_utils

    padded = np.frombuffer(problem.encode()[:512].ljust(512, b"\0"), np.uint8)
    texts = [bytes(row).rstrip(b"\0") for row in np.asarray(multihost_utils.process_allgather(padded))]
    return next(filter(None, texts), b"").decode(errors="replace")


def check_same(values: Mapping[str, str]) -> None:
    """Raises UserError unless all hosts have the same values; with another corpus each would feed other rows."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digest = hashlib.sha256(repr(sorted(values.items())).encode()).digest()[:4]
    found = multihost_utils.process_allgather(np.frombuffer(digest, np.int32))
    if len(set(np.asarray(found).ravel().tolist())) > 1:
        raise UserError(
            f"The hosts differ in {', '.join(values)}: they read different corpora, or have different packages. Fix: "
            "the same corpus and versions everywhere, or one shared cache folder ($JAXLM_CACHE)."
        )


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """A UserError of one process ends all of them with it; otherwise its peers would wait, and start again for ever."""
    mine: UserError | None = None
    try:
        yield
    except UserError as error:
        mine = error
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        if np.any(multihost_utils.process_allgather(np.array(mine is not None))) and mine is None:
            mine = UserError("another process of this run cannot go on: its message says why.")
    if mine is not None:
        raise mine


@contextlib.contextmanager
def ending_when_a_peer_is_lost(
    say: Callable[[str], None] = print, exit_now: Callable[[int], Any] = os._exit
) -> Iterator[None]:
    """In a run of several processes an error of the runtime ends this one with 75, and names those that are gone.

    After it neither a collective nor jax.distributed.shutdown() may be called: both would block until the
    heartbeat aborts the process (measured: 95 s).
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or any(word in str(error) for word in _NOT_A_PEER):
            raise
        lost = roll_call.missing() or "all are there, one of them failed"
        text = (
            f"a peer was lost: {lost} ({_first_line(error)}); ending with code {EXIT_RESUMABLE}: restart all"
        )
        say(text)
        if not is_main():  # whose log is not that of the run
            print(text, file=sys.stderr, flush=True)
        exit_now(EXIT_RESUMABLE)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
