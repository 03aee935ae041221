"""The proof of resumption: real runs, killed and continued elsewhere, and what it says where they differ."""

import os
import pathlib
import subprocess
import sys

import pytest

from jaxlm.commands import options, verify_resume
from jaxlm.commands.verify_resume import Topology
from jaxlm.errors import UserError
from tests import xla
from tests.runs import FEW

ROOT = pathlib.Path(__file__).parents[2]


def proof(corpus, tmp_path, *words):
    command = [sys.executable, "-m", "jaxlm.verify_resume", "--config=tests/recipes/tiny.py", *words]
    own = {"XLA_FLAGS": xla.flags(1), "JAXLM_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [*command, f"--config.data.corpus={corpus}", f"--workdir={tmp_path / 'proof'}"],
        cwd=ROOT,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_a_run_that_goes_on_elsewhere_is_compared_and_the_tolerance_counts(corpus, tmp_path):
    """No difference is small enough here: it says which loss, keeps the folders, and ends with 70."""
    done = proof(corpus, tmp_path, "--on=2,1", "--steps=2", "--tolerance=-1", *FEW)
    assert done.returncode == 70, done.stdout + done.stderr
    assert "restored on 1: " in done.stdout and "steps 3 to 4 on 1: loss off by " in done.stdout
    problems = done.stdout.partition("NOT the same:\n")[2].splitlines()
    assert [one.partition(" the loss")[0].strip() for one in problems[:2]] == ["on 2", "on 1"]
    assert problems[2] == f"The folders stay: {tmp_path / 'proof'}" and len(problems) == 3
    assert (tmp_path / "proof" / "moved" / "checkpoints" / "4").is_dir()


@pytest.mark.slow
def test_several_processes_and_another_split_give_the_same(corpus, tmp_path):
    done = proof(corpus, tmp_path, "--on=4x1,2x2@2,1,1x2x2", "--steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("arrays have the same bits") == 4 and done.stdout.endswith("the same\n")


def test_arrays_that_differ_are_counted_and_named(capsys):
    assert verify_resume._different("x", {"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == []
    (problem,) = verify_resume._different("x", {"a": "1", "b": "2"}, {"a": "1", "b": "3"})
    assert problem == "x: 1 of 2 arrays have other bits, such as b"
    assert "1 of 2 arrays have the same bits" in capsys.readouterr().out
    assert "other arrays (1 and 2)" in verify_resume._different("x", {"a": "1"}, {"a": "1", "b": "3"})[0]


def test_its_own_options_are_told_from_those_of_a_run_and_a_used_folder_is_refused(tmp_path):
    words = ["quickstart", "--on", "2,1", "--config.steps", "9", "--steps=2", "--workdir", "x", "--help"]
    own, given = options.apart(words, verify_resume._VALUES)
    assert own == ["--on", "2,1", "--steps=2", "--workdir", "x", "--help"]
    assert given == ["quickstart", "--config.steps", "9"]
    (tmp_path / "whole").mkdir()
    with pytest.raises(UserError, match="is not empty: its runs would go on"):
        verify_resume.main(["jaxlm verify_resume", "quickstart", "--on=1,1", f"--workdir={tmp_path}"])


@pytest.mark.parametrize(
    ("text", "sizes", "processes"),
    [("4", (4, 1, 1), 1), ("2x4", (2, 4, 1), 1), ("2x2x2@4", (2, 2, 2), 4)],
)
def test_topologies_are_read(text, sizes, processes):
    found = Topology.parse(text)
    assert (found.sizes, found.processes) == (sizes, processes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quickstart", "--on=2y2"], "a topology is DATA"),
        (["quickstart", "--on=3@2"], "2 processes cannot share 3 devices"),
        (["quickstart", "--steps=0"], "--steps=0: at least 1"),
        (["quickstart", "--on=1,2", "--steps=9999"], r"has 1200 steps: it must have more. Fix: --steps=599"),
        (["quickstart", "--config.layers=3"], "layers"),
        ([], "No recipe given"),
    ],
)
def test_what_cannot_be_proved_is_refused_before_anything_runs(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        verify_resume.main(["jaxlm verify_resume", *words, f"--workdir={tmp_path / 'no'}"])
    assert not (tmp_path / "no").exists()
