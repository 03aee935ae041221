"""Freed memory is used again instead of going back to the system."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from jaxlm.runtime import memory
if sys.argv[1] == "keep" and not memory.keep_freed_memory():
    sys.exit("not here")
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"1") * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(4)][-1])
"""


def faults(how: str) -> int:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": ""}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "not here" in done.stderr:
        pytest.skip("no glibc here")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_memory_that_was_freed_is_not_faulted_in_again():
    assert faults("default") > 10_000
    assert faults("keep") < 100
