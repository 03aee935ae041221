"""Several real processes on this machine as one run: what they are told, and that none is left behind."""

import os
import signal
import subprocess
import sys

import pytest

from jaxlm.runtime import local

SAYS = "import os; print(os.environ['JAXLM_PROCESS_ID'], os.environ['JAXLM_NUM_PROCESSES'], os.environ['XLA_FLAGS'])"
WAITS = "import os, time; number = int(os.environ['JAXLM_PROCESS_ID']); open('here', 'a').write(f'{os.getpid()} ')\n"


def run(tmp_path, program, processes=2, devices=8, **environment):
    how = {"processes": processes, "devices": devices, "virtual": True, "environment": environment}
    return local.run(["-c", program], tmp_path / "log", **how)


def test_every_process_has_its_number_and_its_share_of_the_devices(tmp_path):
    assert run(tmp_path, SAYS, XLA_FLAGS="--a --xla_force_host_platform_device_count=3") == 0
    found = [(tmp_path / name).read_text().split() for name in ("log", "log.1")]
    assert [one[:2] for one in found] == [["0", "2"], ["1", "2"]]
    assert all(one[2:] == ["--a", "--xla_force_host_platform_device_count=4"] for one in found)


def test_alone_it_is_no_host_of_several(tmp_path):
    assert run(tmp_path, "import os; assert 'JAXLM_PROCESS_ID' not in os.environ", processes=1) == 0


@pytest.mark.parametrize("ends", ["os.kill(os.getpid(), 9)", "os._exit(78)"])
def test_when_one_is_lost_the_others_are_ended(tmp_path, monkeypatch, ends):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local, "_GRACE_S", 0.2)
    assert run(tmp_path, WAITS + f"\nif number:\n    {ends}\ntime.sleep(60)") in (-signal.SIGKILL, 78)
    for process in map(int, (tmp_path / "here").read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_signal_reaches_the_processes_which_end_as_they_like(tmp_path):
    program = (
        "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "os.write(1, b'ready\\n')\ntime.sleep(60)"
    )
    command = [sys.executable, "-m", "jaxlm.runtime.local", "2", "2", "-c", program]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    process.terminate()
    assert process.wait(timeout=20) == 75


@pytest.mark.parametrize("words", [[], ["2"], ["two", "4"], ["2", "3"], ["0", "4"]], ids=str)
def test_numbers_that_fit_nothing_are_refused(words, capsys):
    assert local.main(["local", *words]) == 78
    assert capsys.readouterr().err.startswith("error: ")
