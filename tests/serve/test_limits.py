"""Claims about what a server refuses, and that it goes on: large bodies, slow and vanished clients, NaN, keys, a full queue."""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import threading
import time

import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.formats import safetensors_file
from jaxlm.serve import guard, server
from jaxlm.serve.limits import Limits
from tests.exchange.folders import hf_folder
from tests.serve import places

SMALL = Limits(batch=4, queue=3, body=2000, sending=1.0, seconds=20.0)


@pytest.fixture(scope="module")
def narrow(folders, tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("# ours\nfirst\n\n second \n")
    around = {"keys": guard.read_keys(str(keys)), "origins": ["https://here.example"]}
    with places.running({"vectors": folders["vectors"]}, limits=SMALL, **around) as found:
        yield found


KEY = {"authorization": "Bearer second"}
ASKED = {"inputs": "the cat"}


def test_only_who_has_a_key_is_let_in(narrow):
    assert (
        narrow.ask("/embed", ASKED, **KEY)[0]
        == narrow.ask("/embed", ASKED, authorization="Bearer first")[0]
        == 200
    )
    for wrong in ("Bearer third", "Bearer ", "Basic second", "second"):
        status, found = narrow.ask("/embed", ASKED, authorization=wrong)
        assert status == 401 and "Authorization: Bearer KEY" in found["error"]
    assert narrow.ask("/v1/embeddings", {"input": "a"})[1]["error"]["code"] == "invalid_api_key"
    for path in ("/health", "/v2/health/live", "/"):
        assert narrow.get(path)[0] == 200
    for path in ("/metrics", "/info", "/v1/models"):
        assert narrow.get(path)[0] == 401


@pytest.mark.parametrize(
    ("text", "message"), [(None, "cannot be read"), ("# none\n\n", "there is no key in it")]
)
def test_a_file_without_keys_is_an_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "keys").write_text(text)
    with pytest.raises(UserError, match=message):
        guard.read_keys(str(tmp_path / "keys"))


def test_only_pages_that_are_named_may_ask(narrow):
    connection = http.client.HTTPConnection(narrow.url.removeprefix("http://"))
    for origin, allowed in (
        ("https://here.example", "https://here.example"),
        ("https://there.example", None),
    ):
        head = {"origin": origin, "access-control-request-method": "POST"}
        connection.request("OPTIONS", "/embed", headers=head)
        answer = connection.getresponse()
        answer.read()
        assert answer.headers.get("access-control-allow-origin") == allowed


def _socket(running):
    host, port = running.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_of_a_body_that_is_too_large_nothing_is_read(narrow):
    with _socket(narrow) as made:  # a gigabyte is announced, and none of it sent
        made.sendall(
            b"POST /embed HTTP/1.1\r\nhost: a\r\nauthorization: Bearer first\r\ncontent-length: 1000000000\r\n\r\n"
        )
        said = made.recv(1000)
        assert b" 413 " in said and b"connection: close" in said.lower()
    with _socket(narrow) as made, contextlib.suppress(ConnectionError):  # or in pieces of unknown number
        made.sendall(
            b"POST /embed HTTP/1.1\r\nhost: a\r\nauthorization: Bearer first\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        sent = 0
        while sent < 50 << 20:
            made.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            sent += 65536
        raise AssertionError(f"{sent} bytes were taken")
    assert narrow.ask("/embed", ASKED, **KEY)[0] == 200


def test_slow_senders_are_cut_off(narrow):
    begin = b"POST /embed HTTP/1.1\r\nhost: a\r\nauthorization: Bearer first\r\ncontent-length: 20\r\n\r\n{"
    with _socket(narrow) as body, _socket(narrow) as head, _socket(narrow) as silent:
        body.sendall(begin)
        head.sendall(b"POST /embed HTTP/1.1\r\nhost:")
        assert b" 408 " in body.recv(1000)
        assert head.recv(1000) == silent.recv(1000) == b""


def test_more_than_is_taken_at_once_is_told_to_come_again(narrow):
    begin = b"POST /embed HTTP/1.1\r\nhost: a\r\nauthorization: Bearer first\r\ncontent-length: 20\r\n\r\n{"
    with contextlib.ExitStack() as stack:
        for _ in range(SMALL.queue):
            stack.enter_context(_socket(narrow)).sendall(begin)
        _until(lambda: narrow.state.under_way == SMALL.queue)
        connection = http.client.HTTPConnection(narrow.url.removeprefix("http://"))
        connection.request("POST", "/v1/embeddings", json.dumps({"input": "a"}), KEY)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert json.loads(answer.read())["error"]["type"] == "rate_limit_error"
    _until(lambda: narrow.state.under_way == 0)
    assert narrow.ask("/embed", ASKED, **KEY)[0] == 200


def _until(fulfilled, seconds=20):
    end = time.monotonic() + seconds
    while not fulfilled():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def blocked(narrow, monkeypatch):
    """The device computes nothing until the event is set."""
    go, compute = threading.Event(), type(narrow.state.device)._compute
    monkeypatch.setattr(type(narrow.state.device), "_compute", lambda *args: (go.wait(20), compute(*args)))
    yield go
    go.set()


def test_rows_of_clients_that_vanish_are_not_computed(narrow, blocked):
    whole = json.dumps(ASKED).encode()
    head = (
        b"POST /embed HTTP/1.1\r\nhost: a\r\nauthorization: Bearer first\r\ncontent-length: %d\r\n\r\n"
        % len(whole)
    )
    device = narrow.state.device
    with _socket(narrow) as first:
        first.sendall(head + whole)  # what the device is busy with
        _until(lambda: narrow.state.under_way == 1 and not device._waiting)
        with _socket(narrow) as second:
            second.sendall(head + whole)
            _until(lambda: device._waiting == 1)
        _until(lambda: narrow.state.under_way == 1)
        blocked.set()
        assert b" 200 " in first.recv(1000)
    _until(lambda: not device._waiting)
    lines = narrow.ask("/metrics", None, **KEY)[1].splitlines()
    assert "jaxlm_dropped_rows_total 1.0" in lines


def test_a_request_whose_time_is_over_is_told_so(folders, monkeypatch):
    with places.running({"vectors": folders["vectors"]}, limits=Limits(seconds=0.3)) as found:
        device = type(found.state.device)
        monkeypatch.setattr(device, "_compute", lambda *args: time.sleep(1.0))
        status, said = found.ask("/v1/embeddings", {"input": "a"})
        assert status == 504 and said["error"]["type"] == "timeout_error"


def _spoiled(path, name, heads):
    """A folder with one weight that is no number."""
    hf_folder(path, heads=heads)
    tensors = safetensors_file.load(path / "model.safetensors")
    found = next(key for key in tensors if name in key)
    tensors[found] = np.full_like(tensors[found], np.nan)
    safetensors_file.save(path / "model.safetensors", tensors)
    return f"hf:{path}"


def test_nan_is_an_error_and_never_an_answer(tmp_path):
    models = {"vectors": _spoiled(tmp_path / "a", "attention.self.query.weight", ("pooler",))}
    with places.running(models) as found:
        for path, body in {
            "/v1/embeddings": {"input": "a cat"},
            "/embed": {"inputs": ["a cat", "a"]},
        }.items():
            status, said = found.ask(path, body)
            assert status == 500 and "vectors says NaN or infinity" in json.dumps(said)
        lines = found.get("/metrics")[1].splitlines()
        count = next(float(line.split()[1]) for line in lines if line.startswith("jaxlm_not_finite_total"))
        assert count >= 2


@pytest.mark.slow
def test_two_thousand_connections_are_answered(folders):
    with places.running({"vectors": folders["vectors"]}, limits=Limits(batch=4, queue=5000)) as found:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 5000:
            pytest.skip(f"only {hard} open files are allowed here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 5000), hard))
        whole = json.dumps(ASKED).encode()
        request = (
            b"POST /embed HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(whole)
            + whole
        )
        with contextlib.ExitStack() as stack:
            made = [stack.enter_context(_socket(found)) for _ in range(2000)]
            for one in made:
                one.settimeout(120)
                one.sendall(request)
            with concurrent.futures.ThreadPoolExecutor(32) as pool:
                said = list(pool.map(lambda one: one.recv(64).split(b" ", 2)[1], made))
        assert said == [b"200"] * 2000


def test_names_of_models_are_what_is_typed_or_the_end_of_the_path(tmp_path):
    (tmp_path / "a=b").mkdir()
    found = server.named(["hf:x/minilm", "small=hf:y/z", "runs/a@300", str(tmp_path / "a=b")])
    assert found == {
        "minilm": "hf:x/minilm",
        "small": "hf:y/z",
        "a": "runs/a@300",
        "a=b": str(tmp_path / "a=b"),
    }
    with pytest.raises(UserError, match="two models are called a. Fix: --run=NAME=d/a"):
        server.named(["c/a", "d/a"])


def test_a_port_that_is_taken_is_an_error_with_another_one():
    with server.bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port={port}: .*in use. Fix: --port={port + 1}"):
            server.bound("127.0.0.1", port)
    with pytest.raises(UserError, match="--batch=3: a power of two"):
        Limits(batch=3).validate()
    with pytest.raises(UserError, match="--queue=0: at least 1"):
        Limits(queue=0).validate()


def test_adapters_are_models_of_their_own_over_one_base(tmp_path):
    pytest.importorskip("peft", reason="needs the extra `parity` (peft)")
    from tests.serve.adapters import decoders

    base, parts, expected = decoders(tmp_path)
    with places.running({"base": base}, parts) as found:
        assert [one["id"] for one in found.get("/v1/models")[1]["data"]] == ["base", *parts]
        for name, text in expected.items():
            body = {"model": name, "prompt": "the cat sat", "temperature": 0, "max_tokens": 8}
            assert found.ask("/v1/completions", body)[1]["choices"][0]["text"] == text
