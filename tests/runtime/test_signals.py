"""Stopping on request, with real signals."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from jaxlm.runtime.signals import StopRequest

ROOT = pathlib.Path(__file__).parents[2]

PROGRAM = """
import sys, time
from jaxlm.runtime.signals import StopRequest
with StopRequest() as stop:
    print("READY", flush=True)
    for step in range(1, 10**6):
        time.sleep(0.01)
        if stop.reached(step) and sys.argv[1] == "obey":
            sys.exit(75)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_asks_for_a_stop_and_handlers_are_restored(number, capfd):
    earlier = signal.getsignal(number)
    lines: list[str] = []
    with StopRequest(say=lines.append) as stop:
        assert not stop.reached(1)
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # within half a second: the launcher's second copy of one request
        assert stop.requested and stop.reached(2) and stop.reached(2)
    assert signal.getsignal(number) == earlier
    assert lines == ["asked to stop: saving after step 2"]
    assert signal.Signals(number).name in capfd.readouterr().err


def start(mode: str, program: str = PROGRAM) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", program, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "READY\n"
    return process


def test_the_first_signal_ends_the_loop_with_the_resumable_code():
    process = start("obey")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_the_process_at_once(number, code):
    process = start("ignore")
    process.send_signal(number)
    time.sleep(0.8)
    assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == code


EARLY = """
import hashlib, sys, time
from jaxlm.runtime.signals import EndingAtOnce, StopRequest
with EndingAtOnce() as early:
    if sys.argv[1] == "over":
        with StopRequest() as stop:
            early.hand_over()
            print("READY", flush=True)
            while not stop.requested:
                time.sleep(0.01)
            sys.exit(3)
    print("READY", flush=True)
    if sys.argv[1] == "in C":
        hashlib.pbkdf2_hmac("sha1", b"", b"", 10**9)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize(("where", "code"), [("in Python", 75), ("in C", 75), ("over", 3)])
def test_before_the_loop_a_signal_ends_the_process_at_once_with_the_resumable_code(number, where, code):
    process = start(where, EARLY)
    process.send_signal(number)
    _, noise = process.communicate(timeout=30)
    assert process.returncode == code, noise
    assert signal.Signals(number).name in noise and "Traceback" not in noise
