"""A Slurm of one machine for tests: its own controller, daemon, ports and folder. In: a folder. Out: jobs that ran."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

CONTROLLER, DAEMON = "slurmctld", "slurmd"
NEEDED = (CONTROLLER, DAEMON, "sbatch", "scontrol")
_CONF = """ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/daemon.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=8
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing() -> str:
    """Why no Slurm can be started here, or ""."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"needs Slurm: {', '.join(absent)} not found (Debian: apt-get install slurmctld slurmd slurm-client)"
    return "" if os.geteuid() == 0 else "slurmd starts jobs as root only"


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[dict[str, str]]:
    """What the environment of its commands needs; with it all jobs end."""
    ports = [_free_port() for _ in range(2)]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    user = pathlib.Path("/proc/self").owner()
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(host=socket.gethostname(), ports=ports, user=user, folder=folder))
    environment = {"SLURM_CONF": str(conf)}
    started = []
    try:
        for name in (CONTROLLER, DAEMON):
            with (folder / f"{name}.log").open("w") as log:
                words = [name, "-D", "-f", str(conf)]
                started.append(subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT))
        _until_idle(environment, folder)
        yield environment
        subprocess.run(["scancel", "--user", user], env={**os.environ, **environment}, check=False)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=60)


def job(environment: dict[str, str], number: str) -> dict[str, str]:
    """What `scontrol show job` says of it: JobState, Restarts, ExitCode, ..."""
    words = ["scontrol", "show", "job", "--oneliner", number]
    shown = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return dict(word.split("=", 1) for word in shown.stdout.split() if "=" in word)


def _until_idle(environment: dict[str, str], folder: pathlib.Path) -> None:
    for _ in range(60):
        words = ["sinfo", "--noheader", "--format=%T"]
        found = subprocess.run(
            words, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        if found.stdout.strip() == "idle":
            return
        time.sleep(1)
    logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.log"))
    raise RuntimeError(f"no Slurm after a minute: {found.stdout}{found.stderr}\n{logs}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
