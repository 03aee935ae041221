"""A run that is stopped while its corpus is prepared: at once, resumable, without orphans, and what was finished stays."""

import json
import os
import pathlib
import signal
import time

import pytest


@pytest.fixture(scope="module")
def long_corpus(corpus, tmp_path_factory) -> pathlib.Path:
    """10 MB: enough for worker processes."""
    texts = [json.loads(line)["text"] for line in pathlib.Path(corpus).read_text().splitlines()]
    path = tmp_path_factory.mktemp("long") / "long.jsonl"
    with open(path, "w") as stream:
        for copy in range(10_000_000 // os.path.getsize(corpus) + 1):
            stream.writelines(json.dumps({"text": f"{text} {copy}"}) + "\n" for text in texts)
    return path


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children")
        for child in task.read_text().split()
    ]


def running(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("to_all", [False, True], ids=["the process", "all processes"])
def test_a_signal_during_the_preparation_ends_with_75(train_command, long_corpus, tmp_path, to_all):
    command = (tmp_path / "run", f"--config.data.corpus={long_corpus}", "--config.tokenizer.vocab_size=400")
    process = train_command(*command, JAXLM_CACHE=str(tmp_path / "cache"))
    while not list((tmp_path / "cache").glob("shards/*/parts/train-*.json")):  # a part is finished
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    workers = children(process.pid)
    assert len(workers) > 1
    for pid in [*workers, process.pid] if to_all else [process.pid]:
        os.kill(pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and "SIGTERM: ending now" in output, output
    assert "Traceback" not in output and "error:" not in output
    deadline = time.monotonic() + 20
    while any(map(running, workers)):
        assert time.monotonic() < deadline, "a worker outlived the run"
        time.sleep(0.05)
    assert list((tmp_path / "cache").glob("shards/*/parts/train-*.json"))
