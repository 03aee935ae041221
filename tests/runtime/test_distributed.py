"""Which environments start jax.distributed, and two real processes that act as one."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from jaxlm.errors import UserError
from jaxlm.runtime import distributed
from tests.runtime.two_hosts import two_hosts

PROGRAM = pathlib.Path(__file__).with_name("two_hosts_program.py")
ROOT = PROGRAM.parents[2]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "5", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_JOB_ID": "5", "SLURM_STEP_NUM_TASKS": "4"}, {}),
        ({"SLURM_STEP_NUM_TASKS": "4", "JAX_PLATFORMS": "cpu"}, {}),
        ({"JAX_PLATFORMS": "cpu", "TPU_WORKER_HOSTNAMES": "a,b"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, {}),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, {}),
        (
            {
                "JAXLM_COORDINATOR": "h:1",
                "JAXLM_NUM_PROCESSES": "3",
                "JAXLM_PROCESS_ID": "2",
                "JAX_PLATFORMS": "cpu",
            },
            {"coordinator_address": "h:1", "num_processes": 3, "process_id": 2},
        ),
    ],
)
def test_plan(environment, expected):
    assert distributed.plan({"TPU_SKIP_MDS_QUERY": "1", **environment}) == expected


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"JAXLM_COORDINATOR": "h:1"}, "JAXLM_NUM_PROCESSES, JAXLM_PROCESS_ID is not"),
        ({"JAXLM_COORDINATOR": "h:1", "JAXLM_NUM_PROCESSES": "2", "JAXLM_PROCESS_ID": "2"}, "0 to .*= 1"),
        (
            {"JAXLM_COORDINATOR": "h:1", "JAXLM_NUM_PROCESSES": "two", "JAXLM_PROCESS_ID": "0"},
            "whole numbers",
        ),
    ],
)
def test_half_an_explicit_environment_is_refused(environment, word):
    with pytest.raises(UserError, match=word):
        distributed.plan(environment)


def test_a_single_process_agrees_with_itself_and_passes_errors_on():
    assert distributed.agree(True) is True and distributed.agree(False) is False
    assert distributed.first_problem("") == "" and distributed.first_problem("full") == "full"
    with pytest.raises(ValueError), distributed.ending_when_a_peer_is_lost():
        raise ValueError


def start_two(mode: str, folder: pathlib.Path, **environment: str) -> list[subprocess.Popen]:
    return [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), mode, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **host, **environment},
        )
        for host in two_hosts(devices=2)
    ]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    try:
        return [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


def wait_until_ready(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        for line in process.stdout:
            if line == "READY\n":
                break
        else:
            pytest.fail(process.stderr.read())


def test_a_signal_before_the_first_step_of_a_resumed_run_stops_both(tmp_path):
    processes = start_two("stop-resumed", tmp_path)
    wait_until_ready(processes)
    processes[1].send_signal(signal.SIGTERM)
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = finish(processes)
    assert [p.returncode for p in processes] == [0, 0]
    assert outputs[0] == outputs[1] and "STOPPED" in outputs[0]


def test_a_save_that_one_process_cannot_make_fails_on_both_and_the_next_is_good_on_both(tmp_path):
    processes = start_two("save", tmp_path)
    outputs = finish(processes)
    assert [p.returncode for p in processes] == [0, 0], [p.stderr.read() for p in processes]
    assert all("GOOD [9]" in out for out in outputs), outputs


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_both_at_the_same_step_with_a_checkpoint(tmp_path, number):
    processes = start_two("stop", tmp_path)
    wait_until_ready(processes)
    processes[1].send_signal(number)
    outputs = finish(processes)
    assert [p.returncode for p in processes] == [0, 0]
    stopped = [[line for line in out.splitlines() if line.startswith("STOPPED")] for out in outputs]
    assert stopped[0] == stopped[1] and len(stopped[0]) == 1
    again = start_two("restore", tmp_path)
    outputs = finish(again)
    assert [p.returncode for p in again] == [0, 0]
    assert all(stopped[0][0].replace("STOPPED", "RESTORED") in out for out in outputs)


def test_a_lost_peer_ends_the_other_within_the_heartbeat(tmp_path):
    processes = start_two("lose", tmp_path, JAXLM_HEARTBEAT_S="5")
    outputs = finish(processes)
    assert processes[1].returncode == 9
    # The collective fails (75), or it blocks and jax aborts: which of them is a matter of the moment.
    assert processes[0].returncode in (75, -signal.SIGABRT), outputs
    named = f"a peer was lost: process 1 ({socket.gethostname()}, pid {processes[1].pid})"
    assert (named in outputs[0]) == (processes[0].returncode == 75), outputs


def test_an_error_of_the_runtime_ends_a_run_of_several_processes_at_once_with_75(tmp_path):
    processes = start_two("error", tmp_path)
    outputs = finish(processes)
    assert [p.returncode for p in processes] == [75, 75], outputs
    assert all("a peer was lost: all are there, one of them failed (injected)" in out for out in outputs)


def test_a_transfer_that_is_not_allowed_is_no_lost_peer(tmp_path):
    processes = start_two("guard", tmp_path)
    outputs = finish(processes)
    assert [p.returncode for p in processes] == [1, 1] and not any("a peer was lost" in o for o in outputs)
