"""One step of a recipe's run: what its program needs by the compiler, and what the process takes. Prints both, in bytes.

python -m tests.runtime.peak RECIPE [--config....]     # Linux; XLA_FLAGS says how many devices
"""

import ctypes
import gc
import pathlib
import sys

import jax
import numpy as np

from jaxlm.config import flags
from jaxlm.planning import described
from jaxlm.runtime import device_memory


def of_process(name: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    run = flags.parse(["plan", *sys.argv[1:]]).run
    program = described.program(run, jax.devices())
    batches = described.batches(program, described.stages(run)[-1][0])
    with jax.set_mesh(program.mesh):
        step = program.train_step().lower(program.state, program.frozen, batches).compile()
        rows = jax.tree.map(lambda x: jax.device_put(np.ones(x.shape, x.dtype), x.sharding), batches)
        state, frozen = jax.block_until_ready(program.start(program.parameters()))
        held = {
            shard.data.unsafe_buffer_pointer(): shard.data.nbytes
            for x in jax.tree.leaves((state, frozen, rows))
            for shard in x.addressable_shards
        }
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        before = of_process("VmRSS") - sum(held.values())
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # from here on VmHWM is the highest
        jax.block_until_ready(step(state, frozen, rows))
    needed = jax.device_count() * (device_memory.estimate(step) or 0)
    print(needed, of_process("VmHWM") - before)


if __name__ == "__main__":
    main()
