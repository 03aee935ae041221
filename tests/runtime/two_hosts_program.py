"""One of two processes of a run: agrees, saves, stops on a signal. Run by test_distributed.py."""

import os
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm.checkpoint import manifest, storage
from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.runtime import distributed, roll_call
from jaxlm.runtime.signals import StopRequest

mode, folder = sys.argv[1:3]
assert distributed.start()
index = jax.process_index()
assert jax.process_count() == 2 and distributed.is_main() == (index == 0)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("d"))
make = jax.jit(lambda step: {"w": jnp.arange(24.0).reshape(8, 3) * step}, out_shardings={"w": sharding})
like = {"w": jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=sharding)}


def local_equal(a, b) -> bool:
    return all(
        np.array_equal(x.data, y.data)
        for x, y in zip(a.addressable_shards, b.addressable_shards, strict=True)
    )


if mode in ("stop", "stop-resumed"):
    first = 1 if mode == "stop" else 26
    assert distributed.agree(index == 0) is True and distributed.agree(index == 1) is False
    checkpoints = Checkpoints(folder, Keep(latest=2, best=0), say=lambda text: None)
    assert checkpoints.newest_intact() is None
    with StopRequest(say=None) as stop:
        if first > 1:
            print("READY", flush=True)
            sys.stdin.readline()
        for step in range(first, first + 1000):
            state = make(float(step))
            time.sleep(0.01)
            if step == 3:
                print("READY", flush=True)
            if stop.reached(step):
                break
    checkpoints.save(step, state, {"step": step}, final=True)
    print(f"STOPPED {step}", flush=True)
elif mode == "restore":
    checkpoints = Checkpoints(folder, Keep(latest=2, best=0), say=print)
    step = checkpoints.newest_intact()
    state, meta = checkpoints.restore(step, like)
    assert meta == {"step": step} and local_equal(state["w"], make(float(step))["w"])
    print(f"RESTORED {step}", flush=True)
elif mode == "save":

    def fail(phase: str, step: int) -> None:
        for failing in (
            (0, "save_started", 1),
            (1, "save_started", 2),
            (1, "save_written", 3),
            (0, "save_written", 4),
        ):
            if (index, phase, step) == failing:
                raise OSError(f"no room for process {index}")

    said = []
    manifest._PEER_WAIT_S = 1.0
    storage._PATIENCE_S = 10.0
    checkpoints = Checkpoints(folder, Keep(latest=2, best=0), say=said.append, hook=fail)
    for step in (1, 2, 3, 4):
        checkpoints.save(step, make(float(step)), {"step": step})
        checkpoints.wait()
    failed = [int(line.split("checkpoint of step ")[1].split()[0]) for line in said]
    # Whether process 1 knows that process 0 could not commit step 4 is a matter of the moment.
    assert failed == [1, 2, 3, 4] or (index == 1 and failed == [1, 2, 3]), said
    # The disk of process 1 is full while it writes.
    noise = jax.jit(lambda: jax.random.normal(jax.random.key(0), (64, 300)), out_shardings=sharding)()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if index == 1 else unlimited[0], unlimited[1]))
    checkpoints.save(5, {"w": noise}, {"step": 5})
    assert checkpoints.wait() and checkpoints.steps() == []
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    checkpoints.save(9, make(9.0), {"step": 9}, final=True)
    print(f"GOOD {checkpoints.steps()}", flush=True)
elif mode == "lose":
    total = jax.jit(lambda x: x.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))
    with roll_call.answering(print), distributed.ending_when_a_peer_is_lost():
        for step in range(1, 10**6):
            float(total(make(float(step))["w"]))
            if step == 3:
                print("READY", flush=True)
            if step == 20 and index == 1:
                os._exit(9)
elif mode == "error":
    distributed.agree(True)
    with roll_call.answering(print), distributed.ending_when_a_peer_is_lost():
        raise jax.errors.JaxRuntimeError("injected")
elif mode == "guard":
    with distributed.ending_when_a_peer_is_lost(), jax.transfer_guard("disallow"):
        jnp.zeros(3)
