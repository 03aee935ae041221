"""What the doctor finds."""

import os
import pathlib
import subprocess
import sys

import pytest

from jaxlm.commands import doctor

ROOT = pathlib.Path(__file__).parents[1]
GOOD = {name: low for name, (low, _) in doctor.TESTED.items()}


def test_the_tested_ranges_are_those_of_the_project_file():
    import tomllib

    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for name, (low, high) in doctor.TESTED.items():
        if name in ("jaxlib", "numpy"):
            continue
        of_any_python = [line.partition(";")[0] for line in lines]
        assert f"{name}>={low},<{high}" in of_any_python


def test_good_versions_have_no_problem():
    assert doctor.version_problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"flax": ""}, "flax is not installed"),
        ({"flax": "0.10.2"}, "flax 0.10.2 is not tested"),
        ({"jax": "0.13.0", "jaxlib": "0.13.0"}, "jax 0.13.0 is not tested"),
        ({"jaxlib": "0.11.0"}, "jaxlib 0.11.0 does not belong to jax 0.10.2"),
        ({"jax-cuda13-plugin": "0.9.0"}, "jax-cuda13-plugin 0.9.0 does not belong"),
        ({"jax": "0.11.2", "jaxlib": "0.11.2"}, "flax 0.12.8 does not import with jax 0.11.2"),
    ],
)
def test_versions_that_do_not_fit_are_named_with_their_fix(change, word):
    problems = doctor.version_problems({**GOOD, **change})
    assert word in problems[0] and "pip install" in problems[0]


@pytest.mark.parametrize(
    ("environment", "versions", "word"),
    [
        ({"JAX_PLATFORMS": "cpu"}, GOOD, "unset JAX_PLATFORMS"),
        ({}, GOOD, "jaxlm[cuda]"),
        ({}, {**GOOD, "jax-cuda13-plugin": "0.10.2"}, "check its driver"),
    ],
)
def test_a_gpu_that_is_not_used_is_a_problem(monkeypatch, environment, versions, word):
    monkeypatch.setattr(doctor, "gpu_present", lambda: True)
    (problem,) = doctor.device_problems(["1 x cpu (cpu)"], "", versions, environment)
    assert word in problem
    assert doctor.device_problems(["1 x NVIDIA H100 (gpu)"], "", versions, environment) == []


def test_a_busy_tpu_says_what_to_do():
    (problem,) = doctor.device_problems([], "The TPU is already in use by process with pid 77", GOOD, {})
    assert "pid 77" in problem and "end the other process" in problem


def test_a_machine_without_accelerator_is_fine(monkeypatch):
    monkeypatch.setattr(doctor, "gpu_present", lambda: False)
    monkeypatch.setattr(doctor, "tpu_present", lambda: False)
    assert doctor.device_problems(["1 x cpu (cpu)"], "", GOOD, {"JAX_PLATFORMS": "cpu"}) == []


def test_hints_name_the_variable():
    hints = doctor.environment_hints({"TOKENIZERS_PARALLELISM": "false", "JAX_DISABLE_JIT": "1"})
    assert any("TOKENIZERS_PARALLELISM" in hint for hint in hints) and any(
        "JAX_DISABLE_JIT" in h for h in hints
    )


def test_the_command_reports_and_exits_by_its_findings(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxlm.doctor"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAXLM_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == (78 if "PROBLEM" in done.stdout else 0), done.stderr
    for word in (
        "python",
        "packages    jax ",
        "devices     8 x cpu (cpu)",
        str(tmp_path),
        "environment JAX_PLATFORMS=cpu",
    ):
        assert word in done.stdout
