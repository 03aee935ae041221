"""Claims about the command as a process: ready when compiled, ends when what it accepted is answered, and its log."""

import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from jaxlm.commands import serve
from jaxlm.errors import UserError
from jaxlm.serve import server
from tests import xla
from tests.tools.started import ROOT


def started(*words):
    """(process, its address) once it listens."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": xla.flags(1)}
    command = [sys.executable, "-m", "jaxlm.serve", "--port=0", *words]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(r"listening on (http://\S+)/ for", line):
            return process, found[1]
    raise AssertionError(process.wait())


def asked(url, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data), timeout=100) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:  # nobody listens any longer
        return 0, b""


def ready(url, seconds=120):
    """The first answers to /health."""
    said, end = [], time.monotonic() + seconds
    while not said or said[-1] != 200:
        said.append(asked(url, "/health")[0])
        assert time.monotonic() < end, said
        time.sleep(0.05)
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_server_that_is_stopped_answers_what_it_accepted_and_nothing_new(folders, written, number):
    process, url = started(f"--run=vectors={folders['vectors']}", f"--run=gpt={written}", "--batch=2")
    assert set(ready(url)) <= {503, 200}
    texts = {"model": "vectors", "input": ["a cat and a dog"] * 64}
    write = {"model": "gpt", "prompt": "The cat", "max_tokens": 50, "n": 8, "seed": 1}
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        under_way = [pool.submit(asked, url, "/v1/completions", write) for _ in range(4)]
        under_way += [pool.submit(asked, url, "/v1/embeddings", texts) for _ in range(16)]
        gauge = lambda: int(
            float(re.search(rb"^jaxlm_requests_under_way (\S+)", asked(url, "/metrics")[1], re.M)[1])
        )
        while not gauge():
            time.sleep(0.01)
        process.send_signal(number)
        late = {asked(url, "/v1/embeddings", texts)[0] for _ in range(5)}
        answers = [one.result() for one in under_way]
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    # What was not accepted yet when the signal came is refused; nothing breaks off.
    assert {status for status, _ in answers} <= {200, 503} and late <= {503, 0}
    accepted = int(re.search(r"stopping: (\d+) requests", errors)[1])
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert accepted > 0 and sum(one["status"] == 200 and one["method"] == "POST" for one in lines) >= accepted
    assert all(len(json.loads(text)["choices"]) == 8 for code, text in answers[:4] if code == 200)
    one = next(one for one in lines if one["route"] == "/v1/embeddings" and one["status"] == 200)
    assert one["model"] == "vectors" and one["read"] == 64 * 7 and one["seconds"] > 0 and "cat" not in errors


@pytest.mark.slow
def test_a_server_that_is_stopped_while_it_compiles_ends(folders):
    process, _ = started(f"--run=vectors={folders['vectors']}", "--batch=64")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0 and "stopping: 0 requests" in errors, errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: --run"),
        (["--run=nowhere/at-all"], "no such folder"),
        (["--run=a", "--run=x/a"], "two models are called a"),
        (["--run=a", "--run=b", "--adapter=c=d"], "--adapter is of one --run"),
        (["--run=a", "--adapter=a=d"], "the model is called so, too"),
        (["--run=a", "--api-keys=nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--run=a", "--port=99999"], "--port=99999: .*Fix: --port=8000"),
        (["--run=a", "--batch=5"], "--batch=5: a power of two"),
        (["--run=a", "--prot=5"], "unknown option --prot"),
    ],
)
def test_what_is_mistyped_is_an_error_before_anything_is_loaded(words, message, monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path))
    port = [] if any("--port" in word for word in words) else ["--port=0"]
    with pytest.raises(UserError, match=message):
        serve.main(["serve", *port, *words])


def test_a_port_that_is_taken_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path))
    with server.bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"in use. Fix: --port={port + 1}"):
            serve.main(["serve", "--run=a", f"--port={port}"])
