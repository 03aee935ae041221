"""Whole runs with a bucket as their --workdir, on a local stand-in for S3."""

import functools
import importlib
import json
import pathlib
import random
import shutil
import signal
import threading
import time

import pytest

from jaxlm.buckets.bucket import Bucket
from jaxlm.checkpoint.manifest import FILE
from jaxlm.config import flags, remote
from jaxlm.config.folder import RunFolder
from jaxlm.errors import UserError
from jaxlm.training import mirrored
from jaxlm.training.mirrored import Following
from tests.buckets import store
from tests.runs import FEW, assert_same_run, finish

SHORT = (*FEW, "--config.checkpoint.every_steps=4")


@pytest.fixture(scope="module")
def bucket():
    with store.running() as url:
        yield url


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def start(bucket, cache, train_command):
    """Starts a run in the bucket on a machine with this cache."""

    def started(name: str, *overrides: str, **environment: str):
        return train_command(f"{bucket}/{name}", *SHORT, *overrides, JAXLM_CACHE=str(cache), **environment)

    return started


@pytest.fixture(scope="module")
def whole(train_command, cache, tmp_path_factory):
    """The same run in a folder of this machine."""
    workdir = tmp_path_factory.mktemp("whole")
    finish(train_command(workdir, *SHORT, JAXLM_CACHE=str(cache)))
    return workdir


def copy(url: str, monkeypatch, cache: pathlib.Path) -> pathlib.Path:
    monkeypatch.setenv("JAXLM_CACHE", str(cache))
    return pathlib.Path(remote.readable(url))


@pytest.mark.parametrize(
    ("phase", "newest"), [("save_written", 4), ("save_uploaded", 4), ("save_committed", 8)]
)
def test_a_run_killed_during_a_save_goes_on_from_the_bucket_to_the_same_bits(
    start, bucket, cache, whole, tmp_path, monkeypatch, phase, newest
):
    name = f"killed-{phase}"
    finish(start(name, JAXLM_FAULT=f"kill@step=8:phase={phase}"), -signal.SIGKILL)
    for copied in (cache / "buckets").glob(f"*-{phase.replace('_', '-')}-*/work"):
        shutil.rmtree(copied)  # as on a machine that never saw the run
    assert f"resumed from the checkpoint of step {newest}" in finish(start(name))
    assert_same_run(whole, copy(f"{bucket}/{name}", monkeypatch, tmp_path / "elsewhere"), 12)


def test_a_run_goes_on_by_its_url_alone_and_leaves_no_owner(
    start, bucket, cache, whole, monkeypatch, tmp_path
):
    output = finish(start("stopped", JAXLM_FAULT="term@step=6"), 75)
    assert f"jaxlm train --workdir={bucket}/stopped" in output
    objects = store.objects(f"{bucket}/stopped")
    owners = [json.loads(content) for name, content in objects.items() if "/.owner/" in name]
    assert [one["released"] for one in owners] == [True]
    assert "saved at step 6" in objects["stopped/run.log"].decode()
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "another"))
    command = flags.parse(["train", f"--workdir={bucket}/stopped"])
    assert command.run.steps == 12 and command.url == f"{bucket}/stopped"
    assert command.workdir.is_relative_to(tmp_path / "another") and not command.workdir.exists()


@pytest.fixture(scope="module")
def done(bucket, cache, train_command):
    url = f"{bucket}/done"
    finish(train_command(url, *SHORT, JAXLM_CACHE=str(cache)))
    return url


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["inspect", "{url}"], "step 12"),
        (["inspect", "{url}/checkpoints/12", "--verify"], "step 12: intact"),
        (["fill_mask", "--run={url}/checkpoints/8", "a [MASK] of tea"], "of tea"),
        (["report", "{url}", "--output={here}/page.html"], "page.html: done"),
        (["export", "{url}", "{here}/hf"], "hf"),
        (["fill_mask", "--run={url}", "a [MASK] of tea"], "of tea"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_read_runs_in_buckets(done, tmp_path, monkeypatch, capsys, command, shown):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "cache"))
    words = [word.format(url=done, here=tmp_path) for word in command]
    main = importlib.import_module(f"jaxlm.commands.{words[0]}").main
    assert main(words) == 0
    assert shown in capsys.readouterr().out
    weights = {path.parts[-4] for path in (tmp_path / "cache").rglob("state/d/*")}
    if any(word.endswith("/checkpoints/8") for word in words):
        assert weights == {"8"}, "a step that is named is fetched alone"
    assert bool(weights) == (words[0] not in ("report", "inspect") or "--verify" in words)


def test_a_folder_with_something_else_is_refused(start, bucket):
    Bucket(f"{bucket}/foreign").write("photo.jpg", b"photo")
    output = finish(start("foreign"), 78)
    assert f"{bucket}/foreign exists and is not a run folder (no config.json). Fix: name another" in output
    assert list(store.objects(f"{bucket}/foreign")) == ["foreign/photo.jpg"]


def test_a_bucket_that_is_not_there_is_a_line(start, bucket):
    output = finish(start("x", "--workdir=s3://nowhere/x"), 78)
    assert "s3://nowhere/x/.owner/00000001.json cannot be written" in output and "Traceback" not in output


def test_a_second_run_of_this_machine_is_refused(start, bucket, cache):
    first = start("busy", JAXLM_FAULT="pause@step=2")
    try:
        for line in first.stdout:
            if "checkpoint  " in line:
                break
        output = finish(start("busy"), 78)
        assert (
            f"{bucket}/busy is in use by process {first.pid} of this machine. Fix: wait for it, stop"
            in output
        )
    finally:
        first.kill()
        first.communicate()


def test_the_copy_is_no_workdir(done, cache):
    folder = next((cache / "buckets").glob("*-done-*/work/done"))
    with pytest.raises(UserError, match=f"is this machine's copy of {done}. Fix: --workdir={done}"):
        remote.working(str(folder), "--workdir")


def test_a_url_without_a_folder_is_refused():
    with pytest.raises(UserError, match="name a folder in the bucket, such as s3://bucket/run"):
        remote.working("s3://bucket/", "--workdir")


def test_nothing_to_read_is_said(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="nothing is there"):
        remote.readable(f"{bucket}/nothing")


def test_a_start_from_weights_in_a_bucket_is_refused():
    with pytest.raises(
        UserError, match=r"config.init_from=s3://a/b: it is read from this machine alone. Fix: copy"
    ):
        remote.local("s3://a/b", "config.init_from")


def test_a_save_that_does_not_reach_the_bucket_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path))
    folder, url = remote.working(f"memory://{tmp_path.name}/run", "--workdir")
    place, said = RunFolder(folder, url), []
    with Following(place, said.append) as following:
        step = place.checkpoints / "3"
        step.mkdir(parents=True)
        (step / FILE).write_text("{}")
        monkeypatch.setattr(Bucket, "write", lambda *_: (_ for _ in ()).throw(OSError("no access")))
        with pytest.raises(OSError, match="no access"):
            following.hook("save_committed", 3)
        assert not (step / FILE).exists()
    assert any("WARNING: no access" in line for line in said)


def test_a_run_that_lost_the_bucket_to_another_stops_and_saves_no_more(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path))
    stopped = threading.Event()
    monkeypatch.setattr(mirrored, "Owner", functools.partial(mirrored.Owner, beat_s=0.05))
    monkeypatch.setattr(mirrored.os, "kill", lambda pid, number: stopped.set())
    folder, url = remote.working(f"memory://{tmp_path.name}/run", "--workdir")
    place, said, bucket = RunFolder(folder, url), [], Bucket(url)
    with Following(place, said.append) as following:
        assert bucket.create(".owner/00000002.json", b"{}")
        assert stopped.wait(20)
        step = place.checkpoints / "3"
        step.mkdir(parents=True)
        (step / FILE).write_text("{}")
        with pytest.raises(OSError, match="another run trains in"):
            following.hook("save_committed", 3)
    assert any("it stops" in line for line in said)
    assert list(bucket.listed()) == [".owner/00000001.json", ".owner/00000002.json"]


def test_small_files_follow_while_a_run_goes_on(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path))
    monkeypatch.setattr(mirrored, "Owner", functools.partial(mirrored.Owner, beat_s=0.05))
    folder, url = remote.working(f"memory://{tmp_path.name}/run", "--workdir")
    with Following(RunFolder(folder, url)):
        (folder / "metrics.jsonl").write_text("line\n")
        for _ in range(400):
            if "metrics.jsonl" in Bucket(url).listed():
                break
            threading.Event().wait(0.05)
        assert Bucket(url).read("metrics.jsonl") == b"line\n"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2])
def test_kills_at_any_moment_and_lost_copies_end_in_the_same_bits(
    start, train_command, bucket, cache, tmp_path, monkeypatch, seed
):
    steps = ("--config.steps=40", "--config.batch_size=64", "--config.checkpoint.every_steps=4")
    finish(train_command(tmp_path / "whole", *FEW, *steps, JAXLM_CACHE=str(cache)))
    rng, name = random.Random(seed), f"storm{seed}"
    for _ in range(6):
        process = start(name, *steps)
        wanted, seen = rng.choice([0, 1, 2]), 0
        for line in process.stdout:
            seen += line.startswith("step ")
            if seen >= wanted:
                break
        time.sleep(rng.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        if rng.random() < 0.5:
            for copied in (cache / "buckets").glob(f"*-{name}-*/work"):
                shutil.rmtree(copied)
    finish(start(name, *steps))
    assert_same_run(tmp_path / "whole", copy(f"{bucket}/{name}", monkeypatch, tmp_path / "elsewhere"), 40)
