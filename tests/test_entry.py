"""Claims about the end of a command: memory that does not suffice is a message with a fix, a bug keeps its trace."""

import subprocess
import sys

import pytest

PROGRAM = """
from jaxlm import entry

def main(argv):
    {body}

entry.run(main, when_out_of_memory="Fix: buy some.")
"""


def ended(body):
    command = [sys.executable, "-c", PROGRAM.format(body=body)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("body", ["import jax.numpy; jax.numpy.zeros(1 << 46)", "bytearray(1 << 60)"])
def test_memory_that_does_not_suffice_is_a_message(body):
    process = ended(body)
    assert process.returncode == 78 and "Traceback" not in process.stderr
    assert process.stderr.startswith("error: out of memory: ") and process.stderr.endswith(
        "\nFix: buy some.\n"
    )


def test_a_bug_keeps_its_trace():
    process = ended("raise RuntimeError('RESOURCE_EXHAUSTED is not said by JAX')")
    assert process.returncode == 1 and "Traceback" in process.stderr
