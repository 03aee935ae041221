"""Freed memory is used again instead of going back to the system."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from jaxlm.runtime import memory
if sys.argv[1] != "default" and not memory.keep_freed_memory():
    sys.exit("not here")
if sys.argv[1] in ("small", "large"):
    assert memory.bound_freed_memory(1 << 30 if sys.argv[1] == "small" else 3 << 30, 12 << 30) == (sys.argv[1] == "large")
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_a_run_that_needs_much_of_the_machine_gives_freed_memory_back():
    assert faults("small") < 100
    assert faults("large") > 10_000
