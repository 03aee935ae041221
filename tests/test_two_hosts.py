"""A run on two processes, as on two hosts: a disk that fails on one of them, stopping, going on."""

import pathlib
import re
import resource
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from jaxlm.monitor import metrics
from jaxlm.run import inputs, seen
from jaxlm.run.attested import replayed
from tests.runtime.two_hosts import two_hosts

FLAGS = (
    "--config.batch_size=16",
    "--config.model.layers=1",
    "--config.logging.every_steps=1",
    "--config.checkpoint.every_steps=10",
    "--config.evaluation.every_steps=1000000",
)


@pytest.fixture
def start_pair(train_command):
    """Starts `python -m jaxlm.train` as both hosts of a run; what is left of them is killed."""
    started: list[subprocess.Popen] = []

    def start(
        workdir: pathlib.Path, *overrides: str, hosts: int = 2, **environment: str
    ) -> list[subprocess.Popen]:
        given = [{**host, **environment} for host in two_hosts(hosts=hosts)]
        pair = [train_command(workdir, *FLAGS, *overrides, **one) for one in given]
        started.extend(pair)
        return pair

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def cache(tmp_path_factory) -> pathlib.Path:
    """Of the started runs."""
    return tmp_path_factory.getbasetemp() / "cache"


def read_until(process: subprocess.Popen, beginning: str) -> str:
    """The output up to the first line that begins so."""
    read = ""
    for line in process.stdout:
        read += line
        if line.startswith(beginning):
            return read
    return pytest.fail(f"no line {beginning!r} in {read}")


def ends(pair: list[subprocess.Popen], code: int) -> str:
    """Waits for both to end with that code; what the main one still printed."""
    outputs = [process.communicate(timeout=400)[0] for process in pair]
    assert [process.returncode for process in pair] == [code, code], outputs
    return outputs[0]


@pytest.mark.timeout(900)  # six processes
def test_both_go_on_when_one_cannot_write_metrics_and_stop_and_resume_together(start_pair, tmp_path, cache):
    workdir = tmp_path / "run"
    pair = start_pair(workdir, "--config.steps=100000")
    read_until(pair[0], "step 1/")
    # From here on no file of process 0 may grow beyond what metrics.jsonl has now, as on a full disk.
    size = (workdir / metrics.FILE).stat().st_size
    unlimited = resource.prlimit(pair[0].pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    read_until(pair[0], "WARNING: no checkpoint of step ")
    resource.prlimit(pair[0].pid, resource.RLIMIT_FSIZE, unlimited)
    read_until(pair[0], "step ")
    pair[1].send_signal(signal.SIGTERM)
    output = ends(pair, 75)
    (step,) = map(int, re.findall(r"^saved at step (\d+)", output, re.MULTILINE))

    # The signal comes before the first step of the resumed run, while it compiles.
    pair = start_pair(workdir, "--config.steps=100000")
    read_until(pair[0], f"resumed from the checkpoint of step {step}")
    pair[1].send_signal(signal.SIGTERM)
    output = ends(pair, 75)
    assert "WARNING" not in output
    (step,) = map(int, re.findall(r"^saved at step (\d+)", output, re.MULTILINE))

    proven = ("--config.check_isolation=true", "--allow_config_change")
    output = ends(start_pair(workdir, f"--config.steps={step + 3}", *proven), 0)
    assert f"resumed from the checkpoint of step {step}" in output and "WARNING" not in output
    assert output.count("packed = alone") == 1, "hosts prove together that documents cannot see each other"
    assert [line["step"] for line in metrics.read(workdir)] == list(range(1, step + 4))
    assert_replayed(workdir, cache, step + 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_hosts_consume_what_one_replays(start_pair, tmp_path, cache):
    hosts = start_pair(tmp_path / "run", "--config.steps=20", hosts=4)
    outputs = [process.communicate(timeout=800)[0] for process in hosts]
    assert [process.returncode for process in hosts] == [0] * 4, outputs
    assert_replayed(tmp_path / "run", cache, 20)


SPLIT = ("--config.mesh.data=1", "--config.mesh.fsdp=-1", "--config.checkpoint.every_steps=4")
HEARTBEAT_S = 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_host_is_named_and_fewer_go_on_with_the_losses_of_one(start_pair, tmp_path):
    """The state lies in parts on four hosts; two, and one that was never stopped, have it otherwise."""
    options = (*SPLIT, "--config.steps=20", "--config.ema_decay=0.0")
    workdir, beat = tmp_path / "run", {"JAXLM_HEARTBEAT_S": str(HEARTBEAT_S)}
    four = start_pair(workdir, *options, hosts=4, **beat)
    assert f"process 2 ({socket.gethostname()}, pid {four[2].pid})" in read_until(four[0], "step 9/")
    four[2].kill()
    killed = time.monotonic()
    outputs = [process.communicate(timeout=HEARTBEAT_S + 60)[0] for process in four]
    assert time.monotonic() - killed < HEARTBEAT_S + 10
    codes = [process.returncode for process in four]
    # A collective fails (75), or it blocks and jax aborts, which says the number of the process that is silent.
    assert set(codes[:2] + codes[3:]) <= {75, -signal.SIGABRT} and codes[2] == -signal.SIGKILL, outputs
    named = {75: "a peer was lost: process 2 (", -signal.SIGABRT: "(stopped sending heartbeats):\n2\n"}
    for output, code in zip(outputs, codes, strict=True):
        assert named.get(code, "") in output, (code, output)

    outputs = [process.communicate(timeout=400)[0] for process in start_pair(workdir, *options, **beat)]
    assert "resumed from the checkpoint of step 8" in outputs[0], outputs
    (one,) = start_pair(tmp_path / "one", *options, hosts=1)
    assert "step 20/20" in one.communicate(timeout=400)[0]
    found, expected = (
        [(line["step"], line["train/loss"]) for line in metrics.read(folder) if "train/loss" in line]
        for folder in (workdir, tmp_path / "one")
    )
    assert [step for step, _ in found] == [step for step, _ in expected] == list(range(1, 21))
    np.testing.assert_allclose([loss for _, loss in found], [loss for _, loss in expected], rtol=1e-5)


def assert_replayed(workdir: pathlib.Path, cache: pathlib.Path, step: int) -> None:
    """One process finds in the shards the hash that the hosts added up."""
    found = seen.saved(str(workdir), step)
    found.run.data.cache = str(cache)
    assert found.since == 0
    text = inputs.text(found.run, lambda line: None)
    assert replayed(found.run, text, found.read) == (found.hash, step * found.run.batch_size)
