"""kill -9 during saves, in real processes: the next start finds an older or the same step, with the right values."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = pathlib.Path(__file__).with_name("kill_program.py")
ROOT = PROGRAM.parents[2]


def start(folder: pathlib.Path, fault: str = "") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "JAXLM_FAULT": fault, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
    )


def first_line(process: subprocess.Popen) -> int | None:
    for line in process.stdout:
        if line.startswith("START"):
            word = line.split()[1]
            return None if word == "None" else int(word)
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(
    ("phase", "newest"), [("save_started", 2), ("save_written", 2), ("save_committed", 3), ("save_pruned", 3)]
)
def test_killed_at_each_phase_of_a_save(tmp_path, phase, newest):
    process = start(tmp_path, f"kill@step=3:phase={phase}")
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    again = start(tmp_path)
    try:
        assert first_line(again) == newest
    finally:
        again.kill()
        again.communicate()


def storm(folder: pathlib.Path, kills: int, seed: int) -> None:
    rng, newest = random.Random(seed), None
    for _ in range(kills):
        process = start(folder)
        try:
            found = first_line(process)
            assert (found or 0) >= (newest or 0), f"seed {seed}: went back from {newest} to {found}"
            newest = found
            time.sleep(rng.uniform(0.0, 0.6))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()


def test_killed_at_random_moments(tmp_path):
    storm(tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_kill_storm(tmp_path):
    storm(tmp_path, kills=50, seed=2)
