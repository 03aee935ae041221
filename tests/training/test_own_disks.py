"""Runs in a bucket whose processes share no disk, as on the hosts of a pod, on a local stand-in for S3."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from jaxlm.config import remote
from tests.buckets import store
from tests.runs import FEW, assert_same_run
from tests.runtime.two_hosts import two_hosts

# The state lies in parts on the hosts; one array is too small to be split.
SPLIT = ("--config.mesh.data=1", "--config.mesh.fsdp=-1", "--config.batch_size=16")
SHORT = (*FEW, *SPLIT, "--config.checkpoint.every_steps=4")
PROGRAM = pathlib.Path(__file__).with_name("own_disks_program.py")
# The same words on every host name a disk of its own: the folder that its process stands in.
OWN = "/proc/self/cwd/cache"


@pytest.fixture(scope="module")
def bucket():
    with store.running() as url:
        yield url


@pytest.fixture(scope="module")
def hosts(train_command, tmp_path_factory):
    """Starts a run on hosts, each with its own disk, and ends with what each said; `faults`: of some, by number."""
    disks = tmp_path_factory.mktemp("disks")

    def run(
        workdir,
        *overrides: str,
        count: int = 2,
        devices: int = 1,
        code: int | None = 0,
        faults=None,
        cache: str = OWN,
    ):
        started: list[subprocess.Popen] = []
        try:
            for number, host in enumerate(two_hosts(devices, hosts=count)):
                disk = disks / f"{number}"
                disk.mkdir(exist_ok=True)
                host |= {"JAXLM_CACHE": cache, "JAXLM_FAULT": (faults or {}).get(number, "")}
                host |= {"JAXLM_HEARTBEAT_S": "10"}
                started.append(train_command(workdir, *SHORT, *overrides, cwd=disk, **host))
            said = [process.communicate(timeout=300)[0] for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
        codes = [process.returncode for process in started]
        assert code is None or codes == [code] * count, "\n".join(said)
        return said, codes

    run.disks = disks
    return run


@pytest.fixture(scope="module")
def whole(hosts, tmp_path_factory):
    """The same run on two processes that share a disk, in a folder."""
    folder = tmp_path_factory.mktemp("whole")
    hosts(folder / "run", cache=str(folder / "cache"))
    return folder / "run"


def copy(url: str, monkeypatch, cache: pathlib.Path) -> pathlib.Path:
    monkeypatch.setenv("JAXLM_CACHE", str(cache))
    return pathlib.Path(remote.readable(url))


def programs(
    url: str,
    disks: pathlib.Path,
    corpus: pathlib.Path | str,
    last: int,
    *own: dict[str, str],
    devices: int = 1,
) -> list[tuple[str, int]]:
    """What each host said, and its code; `own`: of the environment of each."""
    started = []
    for number, (host, given) in enumerate(zip(two_hosts(devices, hosts=len(own)), own, strict=True)):
        (disks / f"{number}").mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            **host,
            "JAXLM_CACHE": OWN,
            "PYTHONPATH": str(pathlib.Path.cwd()),
            **given,
        }
        words = [sys.executable, str(PROGRAM), url, str(corpus), str(last)]
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(words, env=environment, cwd=disks / f"{number}", **out))
    try:
        return [(process.communicate(timeout=200)[0], process.returncode) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_what_two_hosts_saved_one_restores_and_a_failure_of_one_is_that_of_both(bucket, tmp_path):
    corpus, url = tmp_path / "corpus.jsonl", f"{bucket}/few"
    corpus.write_text('{"text": "red and green and blue"}\n{"text": "blue and red"}\n' * 9)
    fault = {"JAXLM_FAULT": "error@step=2:phase=save_uploaded"}
    (zero, code), (one, other) = programs(url, tmp_path / "two", corpus, 2, {}, fault)
    assert (code, other) == (78, 78), (zero, one)
    assert "for the other hosts it is put to" in zero and "preparing" in zero and "preparing" not in one
    for said in (zero, one):
        assert "process 1: [Errno 28] injected fault at save_uploaded of step 2" in said, said
        assert "it resumes from step 1" in said, said
    kept = {name.split("/checkpoints/")[1] for name in store.objects(f"{url}/checkpoints")}
    assert {"1/manifest.json", "1/state/manifest.ocdbt"} <= kept and "2/manifest.json" not in kept

    ((said, code),) = programs(url, tmp_path / "one", corpus, 3, {}, devices=2)
    assert code == 0 and "restored 1" in said, said
    assert {line for line in zero.splitlines() if line.startswith("shards")} <= set(said.splitlines())
    kept = {name.split("/checkpoints/")[1].split("/")[0] for name in store.objects(f"{url}/checkpoints")}
    assert kept == {"2", "3"}, "nothing of step 1, whoever wrote it, and of the failed save of step 2 stays"


def test_a_corpus_that_one_host_cannot_read_ends_all(bucket, tmp_path):
    (tmp_path / "disks" / "0").mkdir(parents=True)
    (tmp_path / "disks" / "0" / "corpus.jsonl").write_text('{"text": "red and green"}\n' * 9)
    (zero, code), (one, other) = programs(f"{bucket}/lacking", tmp_path / "disks", "corpus.jsonl", 1, {}, {})
    assert (code, other) == (78, 78), (zero, one)
    assert 'corpus source "corpus.jsonl": no such file' in one
    assert "error: The corpus cannot be prepared for all hosts. process 1: corpus source" in zero


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 4)])
def test_what_some_hosts_saved_another_number_of_them_restores(bucket, tmp_path, before, after):
    corpus, url = tmp_path / "corpus.jsonl", f"{bucket}/{before}-then-{after}"
    corpus.write_text('{"text": "red and green and blue"}\n' * 9)
    assert {code for _, code in programs(url, tmp_path / "before", corpus, 2, *[{}] * before)} == {0}
    for said, code in programs(url, tmp_path / "after", corpus, 3, *[{}] * after):
        assert code == 0 and "restored 2" in said, said


@pytest.mark.slow
def test_processes_that_share_a_disk_share_the_copy(bucket, tmp_path):
    corpus, url, shared = (
        tmp_path / "corpus.jsonl",
        f"{bucket}/shared",
        {"JAXLM_CACHE": str(tmp_path / "cache")},
    )
    corpus.write_text('{"text": "red and green and blue"}\n' * 9)
    assert {code for _, code in programs(url, tmp_path / "disks", corpus, 2, shared, shared)} == {0}
    shutil.rmtree(tmp_path / "cache")
    for said, code in programs(url, tmp_path / "disks", corpus, 3, shared, shared):
        assert code == 0 and "restored 2" in said, said
    names = {name.split("/", 1)[1] for name in store.objects(url)}
    assert "checkpoints/3/manifest.json" in names and not any(name.startswith(".prepared") for name in names)


@pytest.mark.slow
def test_hosts_with_caches_of_different_names_are_refused(bucket, tmp_path):
    elsewhere = {"JAXLM_CACHE": str(tmp_path / "cache")}
    for said, code in programs(f"{bucket}/names", tmp_path / "disks", "corpus.jsonl", 1, {}, elsewhere):
        assert code == 78 and "the processes of this run have different cache folders" in said, said
    assert not store.objects(f"{bucket}/names")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hosts_that_share_no_disk_save_one_run(hosts, bucket, whole, tmp_path, monkeypatch):
    said, _ = hosts(f"{bucket}/two")
    assert "for the other hosts it is put to" in said[0] and "WARNING: " not in "".join(said)
    assert not list((hosts.disks / "1").rglob("ocdbt.process_0")), "each disk has what its process wrote"
    assert_same_run(whole, copy(f"{bucket}/two", monkeypatch, tmp_path), 12)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("victim", "phase", "newest"),
    [(1, "save_written", 4), (1, "save_uploaded", 4), (0, "save_uploaded", 4), (1, "save_committed", 8)],
)
def test_hosts_one_of_which_was_killed_during_a_save_go_on_from_the_bucket_to_the_same_bits(
    hosts, bucket, whole, tmp_path, monkeypatch, victim, phase, newest
):
    url = f"{bucket}/killed-{victim}-{phase}"
    _, codes = hosts(url, code=None, faults={victim: f"kill@step=8:phase={phase}"})
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] in (75, -signal.SIGABRT)
    shutil.rmtree(hosts.disks)
    hosts.disks.mkdir()
    said, _ = hosts(url)
    assert f"resumed from the checkpoint of step {newest}" in said[0]
    assert_same_run(whole, copy(url, monkeypatch, tmp_path), 12)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_hosts_goes_on(hosts, bucket, tmp_path, monkeypatch, before, after):
    devices, url = max(before, after), f"{bucket}/from-{before}-to-{after}"
    hosts(tmp_path / "one", count=1, devices=devices)
    hosts(url, count=before, devices=devices // before, faults={0: "term@step=6"}, code=75)
    said, _ = hosts(url, count=after, devices=devices // after)
    assert re.search("resumed from the checkpoint of step [0-9]+", said[0])
    assert_same_run(tmp_path / "one", copy(url, monkeypatch, tmp_path), 12)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_host_whose_upload_fails_fails_the_save_of_all(hosts, bucket):
    url, fault = f"{bucket}/failed", "error@step={}:phase=save_uploaded".format
    said, _ = hosts(url, faults={1: f"{fault(8)},{fault(12)}"}, code=78)
    assert "checkpoint of step 8 could NOT be saved: process 1: [Errno 28] injected fault" in said[0]
    for one in said:
        assert "The last checkpoint could not be saved" in one and "it resumes from step 4" in one
    names = [name.split("/")[2] for name in store.objects(f"{url}/checkpoints")]
    assert "4" in names
    said, _ = hosts(url)
    assert "resumed from the checkpoint of step 4" in said[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_hosts_one_of_which_was_killed_go_on_to_the_bits_of_four_on_a_shared_disk(
    hosts, bucket, tmp_path, monkeypatch
):
    hosts(tmp_path / "run", count=4, cache=str(tmp_path / "shared"))
    url = f"{bucket}/four"
    hosts(url, count=4, code=None, faults={3: "kill@step=8:phase=save_uploaded"})
    shutil.rmtree(hosts.disks)
    hosts.disks.mkdir()
    said, _ = hosts(url, count=4)
    assert "resumed from the checkpoint of step 4" in said[0]
    assert_same_run(tmp_path / "run", copy(url, monkeypatch, tmp_path), 12)
