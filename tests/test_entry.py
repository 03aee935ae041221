"""Claims about the end of a command: memory that does not suffice is a message with a fix, a bug keeps its trace."""

import os
import pathlib
import resource
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


@pytest.mark.slow
def test_a_step_that_outgrows_what_the_process_may_have_ends_with_what_to_do(corpus, tmp_path):
    limit = 7 * 2**30
    words = ["tests/recipes/tiny.py", f"--config.data.corpus={corpus}", f"--workdir={tmp_path}/run"]
    command = [sys.executable, "-m", "jaxlm", "train", *words, "--config.batch_size=16384"]
    process = subprocess.run(
        command,
        cwd=pathlib.Path(__file__).parents[1],
        env={**os.environ, "JAXLM_CACHE": str(tmp_path / "cache"), "XLA_FLAGS": ""},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 78 and "Traceback" not in process.stderr, process.stderr
    assert "out of memory" in process.stderr and "--config.accumulate=2 or more" in process.stderr
