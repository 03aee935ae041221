"""Claim: a step of the training loop moves nothing between host and devices that was not asked for explicitly."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests import xla
from tests.runs import FEW

ROOT = pathlib.Path(__file__).parents[1]
SMUGGLED = {
    "a batch that is still numpy": "feed.Feed._to_devices = lambda self, batch: batch",
    "a constant made in the loop": "watchdog.Watchdog.beat = lambda self, step: jnp.zeros(3)",
    "a number handed to a program": "watchdog.Watchdog.beat = lambda self, step: jax.jit(jnp.sin)(float(step))",
}
PROGRAM = """
import jax, jax.numpy as jnp
from jaxlm import entry, train
from jaxlm.data import feed
from jaxlm.runtime import watchdog
{smuggle}
entry.run(train.main)
"""


@pytest.mark.parametrize("smuggle", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_an_implicit_transfer_in_a_step_ends_the_run(smuggle, corpus, tmp_path):
    flags = ("--config=tests/recipes/tiny.py", f"--workdir={tmp_path / 'run'}", *FEW)
    command = [
        sys.executable,
        "-c",
        PROGRAM.format(smuggle=smuggle),
        *flags,
        f"--config.data.corpus={corpus}",
    ]
    one_device = {**os.environ, "XLA_FLAGS": xla.flags(1)}
    done = subprocess.run(command, cwd=ROOT, env=one_device, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout
    assert "Disallowed host-to-device transfer" in done.stderr and "_stage" in done.stderr
