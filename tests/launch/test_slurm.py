"""launch/slurm.sbatch under a real Slurm: two tasks are one run, which its time limit ends and the queue goes on with."""

import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from jaxlm.exchange import stored
from jaxlm.training.restored import hashes, restored
from tests import xla
from tests.launch import slurm
from tests.runs import attested, metrics

ROOT = pathlib.Path(__file__).parents[2]
STEPS, PAUSE = 60, 30

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing()),
]


def submitted(environment, workdir, corpus, *options, fault="") -> str:
    """The number of the job."""
    words = [
        "sbatch",
        "--parsable",
        "--nodes=1",
        "--ntasks-per-node=2",
        "--gpus-per-node=0",
        "--cpus-per-task=1",
    ]
    words += [
        *options,
        str(ROOT / "launch" / "slurm.sbatch"),
        f"--config={ROOT / 'tests' / 'recipes' / 'tiny.py'}",
    ]
    words += [f"--workdir={workdir}", f"--config.data.corpus={corpus}"]
    own = {
        **os.environ,
        **environment,
        "XLA_FLAGS": xla.flags(1),
        "PYTHON": sys.executable,
        "JAXLM_FAULT": fault,
    }
    done = subprocess.run(words, env=own, cwd=workdir.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def ended(environment, number) -> dict[str, str]:
    while (found := slurm.job(environment, number))["JobState"] in (
        "PENDING",
        "CONFIGURING",
        "RUNNING",
        "COMPLETING",
    ):
        time.sleep(2)
    return found


def test_a_job_that_its_time_limit_ends_goes_on_and_ends_in_the_same_bits(tmp_path, corpus):
    """It waits at a step until Slurm says that its time is over; Slurm looks once a minute."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "slurm").mkdir()
    with slurm.running(tmp_path / "slurm") as environment:
        whole = submitted(environment, tmp_path / "whole", corpus, "--time=60")
        limit = ("--time=3", "--signal=USR1@90")
        cut = submitted(environment, tmp_path / "cut", corpus, *limit, fault=f"pause@step={PAUSE}")
        found = [ended(environment, number) for number in (whole, cut)]
    logs = {number: (tmp_path / "logs" / f"jaxlm-{number}.log").read_text() for number in (whole, cut)}
    assert [one["JobState"] for one in found] == ["COMPLETED"] * 2, logs
    assert [one["Restarts"] for one in found] == ["0", "1"], logs[cut]
    assert f"code 75: queueing job {cut} again" in logs[cut]
    (step,) = re.findall(r"resumed from the checkpoint of step (\d+)", logs[cut])
    assert PAUSE - 1 <= int(step) < STEPS  # both agree on a step a little later
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    assert attested(cut, STEPS) == attested(whole, STEPS) and metrics(cut) == metrics(whole)
    assert state(cut) == state(whole)


def state(place: pathlib.Path) -> dict[str, str]:
    """The hash of every array; two processes wrote it."""
    run = stored.open_stored(str(place), say=print, step=STEPS).run
    return hashes(restored(run, place, STEPS))
