"""metrics.jsonl: no gap, no duplicate, no torn line after any interruption; trackers never stop a run."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from jaxlm.errors import UserError
from jaxlm.monitor import metrics
from jaxlm.monitor.metrics import Writer

ROOT = pathlib.Path(__file__).parents[2]


def write(workdir: pathlib.Path, resume: int, steps: range, **options) -> None:
    with Writer(workdir, tensorboard=False, **options) as writer:
        writer.resume(resume)
        for step in steps:
            writer.write(step, {"train/loss": step / 3, "optim/learning_rate": 1e-4 * step})


def test_lines_hold_exact_values(tmp_path):
    write(tmp_path, 0, range(1, 4))
    assert metrics.read(tmp_path)[2] == {"step": 3, "train/loss": 1.0, "optim/learning_rate": 1e-4 * 3}


@pytest.mark.parametrize(
    "torn", ["", '{"step": 9, "train/lo', "\x00\x00\x00", "[1, 2]\n", '{"train/loss": 1}\n']
)
def test_resume_leaves_neither_gap_nor_duplicate(tmp_path, torn):
    write(tmp_path / "whole", 0, range(1, 13))
    write(tmp_path / "cut", 0, range(1, 9))
    with open(tmp_path / "cut" / metrics.FILE, "a") as file:
        file.write(torn)
    write(tmp_path / "cut", 5, range(6, 13))
    files = [(tmp_path / name / metrics.FILE).read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def lost(path: pathlib.Path, how: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    changed = {
        "deleted": [],
        "cut": lines[:5],
        "a line less": lines[:3] + lines[4:],
        "zeroed": ["\0" * path.stat().st_size],
        "one digit": [line.replace('"step": 3', '"step": 2') for line in lines],
        "another run": [line.replace("0.3", "0.4") for line in lines],
    }
    path.write_text("".join(changed[how]))


@pytest.mark.parametrize("how", ["deleted", "cut", "a line less", "zeroed", "one digit", "another run"])
def test_lines_that_were_lost_since_the_checkpoint_are_noticed_once(tmp_path, how):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.resume(0)
        for step in range(1, 9):
            writer.write(step, {"train/loss": step / 3})
        saved = json.loads(json.dumps(writer.written()))
        writer.write(9, {"train/loss": 3.0})
    said: list[str] = []
    for _ in range(2):
        with Writer(tmp_path, tensorboard=False, say=said.append) as writer:
            writer.resume(8, saved)
    assert said == []
    lost(tmp_path / metrics.FILE, how)
    for _ in range(2):
        with Writer(tmp_path, tensorboard=False, say=said.append) as writer:
            writer.resume(8, saved)
            saved = writer.written()
    assert len(said) == 1 and said[0].startswith("WARNING") and "up to step 8: 8 lines then" in said[0]


@pytest.mark.parametrize("what", ["directory", "dangling link"])
def test_something_else_in_place_of_the_file_is_a_message(tmp_path, what):
    path = tmp_path / metrics.FILE
    path.mkdir() if what == "directory" else path.symlink_to("nowhere/else")
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be read and written \(.*Fix:"):
        Writer(tmp_path, tensorboard=False).resume(3)


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_under_tensorboard_is_one_line_and_no_stack_trace(tmp_path, capfd):
    lines: list[str] = []
    with Writer(tmp_path, say=lines.append) as writer:
        writer.resume(0)
        (events,) = (tmp_path / "tensorboard").iterdir()
        full = os.open("/dev/full", os.O_WRONLY)
        for number in os.listdir("/proc/self/fd"):
            if os.path.realpath(f"/proc/self/fd/{number}") == str(events):
                os.dup2(full, int(number))
        for step in (1, 2):
            writer.write(step, {"a": 1.0})
            writer.flush()
    os.close(full)
    assert len(lines) == 1 and "TensorBoard failed and is off from here on" in lines[0]
    assert capfd.readouterr() == ("", "")


def test_resume_to_zero_starts_over(tmp_path):
    write(tmp_path, 0, range(1, 5))
    write(tmp_path, 0, range(1, 3))
    assert [line["step"] for line in metrics.read(tmp_path)] == [1, 2]


def test_one_step_may_get_several_lines_but_each_name_once(tmp_path):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.resume(0)
        writer.write(5, {"train/loss": 1.0})
        writer.write(5, {"train/loss": 2.0, "eval/loss": 3.0})
        writer.write(5, {"eval/loss": 4.0})
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.resume(5)
        writer.write(5, {"eval/loss": 9.0})
    assert metrics.read(tmp_path) == [{"step": 5, "train/loss": 1.0}, {"step": 5, "eval/loss": 3.0}]


def test_what_is_not_finite_is_null_so_that_the_file_stays_json(tmp_path):
    with Writer(tmp_path, tensorboard=False) as writer:
        writer.resume(0)
        writer.write(1, {"a": float("nan"), "b": float("inf"), "c": 0.5})
    text = (tmp_path / metrics.FILE).read_text()
    refuse = lambda name: pytest.fail(f"{name} is not JSON")
    assert json.loads(text, parse_constant=refuse) == {"step": 1, "a": None, "b": None, "c": 0.5}


def test_other_processes_write_nothing(tmp_path):
    with Writer(tmp_path / "run", enabled=False) as writer:
        writer.resume(0)
        writer.write(1, {"a": 1.0})
        writer.flush()
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_the_values_and_marks_the_restart(tmp_path):
    with Writer(tmp_path) as writer:
        writer.resume(0)
        writer.write(1, {"train/loss": 7.0})
    with Writer(tmp_path) as writer:
        writer.resume(1)
        writer.write(2, {"train/loss": 6.0})
    files = sorted((tmp_path / "tensorboard").iterdir())
    assert any(b"train/loss" in file.read_bytes() for file in files)
    assert sum(file.stat().st_size for file in files) > 100


def test_a_tracker_that_breaks_is_switched_off_with_one_line(tmp_path):
    lines: list[str] = []
    (tmp_path / "tensorboard").write_text("not a folder")
    with Writer(tmp_path, wandb="project", say=lines.append) as writer:
        writer.resume(0)
        for step in (1, 2):
            writer.write(step, {"a": 1.0})
    assert [line["step"] for line in metrics.read(tmp_path)] == [1, 2]
    assert len([line for line in lines if "TensorBoard" in line]) == 1
    assert all(line.startswith("WARNING") for line in lines)


def test_lines_survive_kill_9_after_flush(tmp_path):
    program = (
        "import os, signal, sys\n"
        "from jaxlm.monitor.metrics import Writer\n"
        "w = Writer(sys.argv[1], tensorboard=False); w.resume(0)\n"
        "w.write(1, {'a': 1.0}); w.flush()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert metrics.read(tmp_path) == [{"step": 1, "a": 1.0}]
