"""Two real processes: what host_rows and Feed do when the mesh is laid over hosts in an unusual way."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import json, sys
import jax, numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
from jaxlm.batch import Batch
from jaxlm.data.feed import Feed, host_rows
from jaxlm.runtime import distributed

port, process, layout = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
devices = np.array(sorted(jax.devices(), key=lambda d: d.id)).reshape(2, 4)  # host, device of the host
grid = {"data_over_hosts": devices, "tensor_over_hosts": devices.T,
        "alternating": devices.T.reshape(8, 1)}[layout]
mesh = Mesh(grid, ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
spec = P("data") if layout != "data_over_hosts" else P(("data", "tensor"))
sharding = NamedSharding(mesh, spec)
rows = host_rows(sharding, 16)
tokens = (100 * rows[:, None] + np.arange(3)).astype(np.int32)
digests = np.zeros((len(rows), 32), np.uint8)
digests[:, 0] = rows + 1
host = Batch(tokens_BT=tokens, segments_BT=tokens, positions_BT=tokens, digests_B=digests)
with Feed(iter([host]), sharding, batch_size=16) as feed:
    batch = next(feed)
read = distributed.total(feed.read)
weigh = lambda x: (x * np.arange(1, 17)[:, None]).sum()
total = jax.jit(weigh, out_shardings=NamedSharding(mesh, P()))(batch.tokens_BT)
print(json.dumps({"rows": rows.tolist(), "total": int(total), "read": read}))
"""


@pytest.mark.parametrize("layout", ["data_over_hosts", "tensor_over_hosts", "alternating"])
def test_two_processes_make_one_global_batch_on_any_layout(layout):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", PROGRAM, str(port)]
    running = [
        subprocess.Popen(
            [*command, str(p), layout], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for p in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs[0][1] + outputs[1][1]
    got = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    tokens = 100 * np.arange(16)[:, None] + np.arange(3)
    assert {g["total"] for g in got} == {int((tokens * np.arange(1, 17)[:, None]).sum())}
    assert {g["read"] for g in got} == {16 * 17 // 2}, "every row once, also where both hold it"
    expected = {
        "data_over_hosts": [list(range(8)), list(range(8, 16))],
        "tensor_over_hosts": [list(range(16))] * 2,
        "alternating": [[r for r in range(16) if r // 2 % 2 == p] for p in range(2)],
    }
    assert [g["rows"] for g in got] == expected[layout]
