"""A local stand-in for S3 (moto's server, a process of its own)."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import fsspec
import pytest

NAME = "runs"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of an empty bucket, which this process and those it starts reach by their environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    where = f"http://127.0.0.1:{port}"
    said = {"AWS_ENDPOINT_URL": where, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**said, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}.items():
                patch.setenv(name, value)
            _wait(where)
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(NAME)
            yield f"s3://{NAME}"
    finally:
        server.kill()
        server.wait()


def _wait(where: str, seconds: float = 60) -> None:
    opener, until = urllib.request.build_opener(urllib.request.ProxyHandler({})), time.monotonic() + seconds
    while True:
        try:
            opener.open(f"{where}/moto-api/", timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.1)


def objects(url: str) -> dict[str, bytes]:
    """What is in the bucket."""
    system = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    return {name.removeprefix(f"{NAME}/"): system.cat_file(name) for name in system.find(url)}
