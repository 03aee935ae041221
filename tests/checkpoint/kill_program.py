"""Saves one step after another until it is killed; on start it checks what it finds. Run by test_kill.py."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.runtime import fault

ARRAYS, SHAPE = 6, (256, 513)


def make(step: int) -> dict:
    return {f"w{i}": jnp.full(SHAPE, step + i / 8, jnp.float32) for i in range(ARRAYS)}


checkpoints = Checkpoints(sys.argv[1], Keep(latest=2, best=0), hook=fault.at)
start = checkpoints.newest_intact()
leftovers = [p.name for p in checkpoints.directory.iterdir() if "tmp" in p.name]
if start is not None:
    state, meta = checkpoints.restore(start, jax.eval_shape(lambda: make(0)))
    assert meta == {"step": start}, meta
    for name, array in make(start).items():
        np.testing.assert_array_equal(state[name], array)
assert not leftovers, leftovers
print(f"START {start}", flush=True)
for step in range((start or 0) + 1, 10**6):
    checkpoints.save(step, make(step), {"step": step})
    print(f"SAVING {step}", flush=True)
