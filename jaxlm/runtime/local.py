"""One run as several processes on this machine, each a host with devices of its own. In: a command. Out: its exit code.

    python -m jaxlm.runtime.local PROCESSES DEVICES -m jaxlm.train ...      (launch/local.sh)

On a CPU devices are virtual: any number of them. Guarantee: no process is left when `run` returns; when one of them
ends otherwise than with 0 the others, which would wait for it, are ended too.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from jaxlm.errors import EXIT_USER

_COUNT = "--xla_force_host_platform_device_count"
_GRACE_S = 10.0  # for the others to say that they lost one


def run(
    words: Sequence[str],
    log: pathlib.Path | None,
    *,
    processes: int,
    devices: int,
    virtual: bool,
    environment: Mapping[str, str],
    signals: bool = False,
) -> int:
    """Runs `python *words` on so many `devices` together.

    What process N says goes to `log` (0) or log.N (others); None: where this one says it. `signals`: SIGTERM is passed
    on, and SIGINT, which a terminal sends to all, is left to them.
    """
    started: list[subprocess.Popen] = []
    if signals:
        signal.signal(signal.SIGINT, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: [one.send_signal(number) for one in started])
    share = devices // processes if virtual else 0
    try:
        for number, own in enumerate(hosts(processes, share, {**os.environ, **environment})):
            place = None if log is None else log.with_name(log.name + f".{number}" * bool(number))
            started.append(_started(words, own, place))
        return _ended(started)
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()


def hosts(processes: int, share: int, given: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of every process; `share`: its virtual devices, 0: none are."""
    common = dict(given)
    if share:
        others = re.sub(rf"{_COUNT}=\d+", "", common.get("XLA_FLAGS", ""))
        common["XLA_FLAGS"] = f"{others} {_COUNT}={share}".strip()
        # A virtual device waits in a thread for every sum that others have not come to; with a thread a device, XLA:CPU
        # can run out of them, and ends the process after 40 s ("waiting for all reduce ... may be stuck").
        common.setdefault("PJRT_NPROC", str(4 * share))
    if processes == 1:
        return [common]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common |= {"JAXLM_COORDINATOR": f"127.0.0.1:{port}", "JAXLM_NUM_PROCESSES": str(processes)}
    return [{**common, "JAXLM_PROCESS_ID": str(number)} for number in range(processes)]


def _started(words: Sequence[str], own: Mapping[str, str], place: pathlib.Path | None) -> subprocess.Popen:
    command = [sys.executable, *words]
    if place is None:
        return subprocess.Popen(command, env=own)
    with place.open("a") as said:
        return subprocess.Popen(command, env=own, stdout=said, stderr=subprocess.STDOUT)


def _ended(started: Sequence[subprocess.Popen]) -> int:
    """The code of the first process that fails, else 0."""
    first, since = 0, 0.0
    while any(process.poll() is None for process in started):
        failed = [code for process in started if (code := process.poll())]
        if failed and not first:
            first, since = failed[0], time.monotonic()
        if first and (first == -signal.SIGKILL or time.monotonic() - since > _GRACE_S):
            return first
        time.sleep(0.05)
    return first or next((process.returncode for process in started if process.returncode), 0)


def machine() -> tuple[str, int]:
    """(platform, number of devices) of this machine, asked in a process of its own: that of a TPU keeps it."""
    ask = "import jax; print(jax.default_backend(), jax.device_count())"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    platform, number = said.split()[-2:]
    return platform, int(number)


def main(argv: Sequence[str]) -> int:
    """Virtual devices, and everything that is said on this terminal. A signal is for the processes, which save."""
    try:
        processes, devices = int(argv[1]), int(argv[2])
    except (IndexError, ValueError):
        print(
            "error: python -m jaxlm.runtime.local PROCESSES DEVICES COMMAND: two whole numbers",
            file=sys.stderr,
        )
        return EXIT_USER
    if processes < 1 or devices < 1 or devices % processes:
        print(f"error: {processes} processes cannot share {devices} devices alike", file=sys.stderr)
        return EXIT_USER
    return run(
        argv[3:], None, processes=processes, devices=devices, virtual=True, environment={}, signals=True
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
