"""Claim: whatever is in a file of a stranger, reading it succeeds or is refused by name, in little memory and time.

A crash, a hang or a full memory would end the process that reads, so it is one of its own. Seeds say what was damaged
how: `python -m tests.fuzz.program DIR SEED 1 KIND` does one of them again.
"""

import pathlib
import subprocess
import sys

import pytest

from tests.fuzz import good

ROOT = pathlib.Path(__file__).parents[2]


def read(folder: pathlib.Path, first: int, count: int, *kinds: str) -> None:
    command = [sys.executable, "-m", "tests.fuzz.program", folder, first, count, *kinds]
    process = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    faults = [line for line in process.stdout.splitlines() if line.startswith("FAULT")]
    assert process.returncode == 0, f"{(folder / 'now').read_text()}: {process.stderr[-3000:]}"
    assert not faults, "\n".join(faults[:20])
    assert process.stdout.count("taken") == len(kinds)


def test_a_sample_of_damaged_files_is_taken_or_refused_by_name(tmp_path):
    read(tmp_path, 0, 15, *good.MAKERS)


def test_every_key_of_a_config_json_may_have_any_value(tmp_path):
    read(tmp_path, 0, 1, "config")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", good.MAKERS)
def test_damaged_files_are_taken_or_refused_by_name(tmp_path, kind):
    read(tmp_path, 100, 2000, kind)
