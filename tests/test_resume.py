"""A run that is killed anywhere and started again ends in the bits of the run that was not.

The short form is part of the gate; `pytest -m slow tests/test_resume.py` kills ten times at random moments.
"""

import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.runs import assert_same_run, finish

# Steps of some 0.1 s, so that a storm spreads its kills over the run.
SLOW_STEPS = ("--config.batch_size=64", "--config.logging.every_steps=2", "--config.checkpoint.every_steps=4")
STEPS = 28  # two kills fit in
SHORT = (*SLOW_STEPS, f"--config.steps={STEPS}")


@pytest.fixture(scope="module")
def uninterrupted(train_command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    finish(train_command(workdir, *SHORT))
    return workdir


@pytest.fixture(scope="module")
def long(train_command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("long")
    finish(train_command(workdir, *SLOW_STEPS))
    return workdir


def _kill_soon(process, rng: random.Random) -> None:
    """SIGKILL at a random moment of the next few steps, or of the start."""
    wanted = rng.choice([0, 2, 3, 4])
    seen = 0
    for line in process.stdout:
        seen += line.startswith("step ")
        if seen >= wanted:
            break
    time.sleep(rng.uniform(0.0, 0.25))
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _storm(start: Callable[[], subprocess.Popen], workdir: pathlib.Path, kills: int, seed: int) -> list[str]:
    """Starts and kills a run; what its checkpoint folder held after every kill."""
    rng = random.Random(seed)
    history = []
    for _ in range(kills):
        process = start()
        _kill_soon(process, rng)
        assert process.returncode == -signal.SIGKILL, (
            f"seed {seed}: the run ended before kill {len(history)}: {history}"
        )
        folder = workdir / "checkpoints"
        history.append(",".join(sorted(p.name for p in folder.iterdir())) if folder.exists() else "-")
    process = start()
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, f"seed {seed}: {history}\n{output}"
    return history


def test_killed_runs_end_in_the_same_bits(train_command, uninterrupted, tmp_path):
    workdir = tmp_path / "killed"
    _storm(lambda: train_command(workdir, *SHORT), workdir, kills=2, seed=11)
    assert_same_run(uninterrupted, workdir, STEPS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills_end_in_the_same_bits(train_command, long, tmp_path, seed):
    workdir = tmp_path / "killed"
    history = _storm(lambda: train_command(workdir, *SLOW_STEPS), workdir, kills=10, seed=seed)
    print(*history, sep="\n")
    assert_same_run(long, workdir, 60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_kill_in_every_phase_of_a_save_loses_nothing(train_command, long, tmp_path):
    phases = ("save_started", "save_written", "save_committed", "save_pruned")
    for step, phase in [(4, "save_started"), (4, "save_written"), *((20, phase) for phase in phases)]:
        workdir = tmp_path / f"{phase}-{step}"
        process = train_command(workdir, *SLOW_STEPS, JAXLM_FAULT=f"kill@step={step}:phase={phase}")
        output, _ = process.communicate(timeout=280)
        assert process.returncode == -signal.SIGKILL, output
        finish(train_command(workdir, *SLOW_STEPS))
        assert_same_run(long, workdir, 60)


def test_sigterm_commits_and_exits_75_and_the_same_command_goes_on(train_command, uninterrupted, tmp_path):
    workdir = tmp_path / "stopped"
    process = train_command(workdir, *SHORT)
    for line in process.stdout:
        if line.startswith("step "):
            break
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    saved = [int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdecimal()]
    assert saved and max(saved) < STEPS
    output = finish(train_command(workdir, *SHORT))
    assert f"step {max(saved)}" in output, output
    assert_same_run(uninterrupted, workdir, STEPS)
