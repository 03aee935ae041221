"""Injected faults: what JAXLM_FAULT may say, and that it happens then and only then."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from jaxlm.errors import UserError
from jaxlm.runtime import fault
from jaxlm.runtime.fault import Fault, parse

ROOT = pathlib.Path(__file__).parents[2]


def test_parse():
    assert parse("") == ()
    assert parse("kill@step=37") == (Fault(action="kill", step=37, phase="before_step"),)
    assert parse("kill@step=4:phase=save_written, nan@step=5") == (
        Fault(action="kill", step=4, phase="save_written"),
        Fault(action="nan", step=5, phase="before_step"),
    )


@pytest.mark.parametrize(
    "text", ["kill", "explode@step=3", "kill@step=x", "kill@step=3:phase=never", "kill@when=3"]
)
def test_what_cannot_be_read_is_named(text):
    with pytest.raises(UserError, match="JAXLM_FAULT='" + text):
        parse(text)


def test_unset_nothing_happens():
    fault.at("before_step", 1)
    assert not fault.nan(1)


def run(text: str, program: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", f"from jaxlm.runtime import fault\n{program}"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAXLM_FAULT": text},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_kill_strikes_at_its_step_and_phase():
    loop = "for i in range(9):\n  fault.at('before_step', i); fault.at('after_step', i); print(i, flush=True)"
    done = run("kill@step=3:phase=after_step", loop)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]


def test_error_is_a_full_disk_and_nan_marks_its_step():
    program = (
        "print([fault.nan(i) for i in range(3)])\n"
        "try: fault.at('save_started', 2)\n"
        "except OSError as e: print(e.errno)"
    )
    done = run("nan@step=1,error@step=2:phase=save_started", program)
    assert done.stdout.splitlines() == ["[False, True, False]", "28"]
