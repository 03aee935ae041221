"""The train step compiles for an H100 that is not there, with cuDNN's attention over offsets of segments.

`pytest -m gpu_compile`; needs jax's CUDA plugin and a few of NVIDIA's wheels, but neither a GPU nor cuDNN, whose
kernels are therefore named in the program and not compiled: tools/check_kernels.py runs them.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[1]
WHEELS = f"jax-cuda13-plugin=={jax.__version__} jax-cuda13-pjrt=={jax.__version__}"
WHEELS += " nvidia-cuda-nvcc nvidia-nvvm nvidia-cuda-runtime"
pytestmark = [
    pytest.mark.gpu_compile,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("jax_cuda13_plugin") is None,
        reason=f"needs jax's CUDA plugin: pip install --no-deps {WHEELS}",
    ),
]

# What XLA wants to know of the GPU (GpuTargetConfigProto).
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0" dnn_version: "9.12.0"
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64 device_vendor: "NVIDIA Corporation"
  name: "NVIDIA H100 80GB HBM3"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

PROGRAM = """
import dataclasses, json, re, sys
import jax, numpy as np
from jax.experimental import topologies
from jax._src.cudnn import fused_attention_stablehlo as fused
from jaxlm.batch import Vocabulary
from jaxlm.config import Stage, flags
from jaxlm.models import kernels
from jaxlm.optim.schedules import Constant
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.run.program import Program

# jax asks the GPU that is there; this one is described.
fused.check_compute_capability, fused.check_cudnn_version = lambda needed: True, lambda: 91200
recipe, axes, length, rows, most, target = json.loads(sys.argv[1])
run = flags.load(recipe)
run.batch_size, run.ema_decay, run.accumulate = rows, 0.0, 1
run.optimizer = dataclasses.replace(run.optimizer, schedule=Constant(peak=1e-4, warmup="0"))
shape = {"platform": "cuda", "topology_name": "h100", "topology": f"1x1x{max(2 * axes.get('tensor', 1), 1)}"}
devices = topologies.get_topology_desc(**shape, target_config=target).devices
vocabulary = Vocabulary(
    size=199, pad=0, unk=1, cls=2, sep=3, mask=4, bos=2, eos=3, sentinels=tuple(range(5, 105)),
    special_V=np.arange(199) < 105, continues_V=np.zeros(199, bool),
)
program = Program.of(run, meshes.make(Mesh(**axes), devices))
batches = program.batches(Stage(length=length, share=1.0), vocabulary)
batches = {k: dataclasses.replace(b, most_segments=most) for k, b in batches.items()}
step = program.train_step()
with jax.set_mesh(program.mesh), kernels.recorded() as chosen:
    text = step.lower(program.state, program.frozen, batches).compile().as_text()
print(json.dumps({
    "kernels": sorted({c.name for c in chosen}),
    "calls": sorted(set(re.findall(r'custom_call_target="__cudnn[$](\\w+)"', text))),
    "square": sorted(set(re.findall(rf"\\w+\\[[0-9,]*{length},{length}[0-9,]*\\]", text))),
    "masks": sorted(set(re.findall(r'"mask_type": ?"(\\w+)"', text))),
    "segments": sorted(set(map(int, re.findall(r'"max_seg_per_batch": ?"?(\\d+)', text)))),
}))
"""


def compiled(recipe: str, axes: dict, *, length: int, most: int) -> dict:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_gpu_autotune_level=0"}
    path = str(ROOT / "configs" / f"{recipe}.py")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([path, axes, length, 16, most, H100])],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# Lengths that are no other size of the model, so that a square of them is T x T.
@pytest.mark.parametrize("axes", [dict(data=-1), dict(data=1, fsdp=2, tensor=2)], ids=str)
def test_an_encoder_is_told_its_segments_and_makes_nothing_of_t_times_t(axes):
    found = compiled("bert_base_fast", axes, length=448, most=16)
    assert found["kernels"] == ["cudnn packed"] and found["square"] == []
    assert found["calls"] == ["fmhaSoftmax", "fmhaSoftmaxBackward"]
    assert found["masks"] == ["PADDING"] and found["segments"] == [17]


def test_a_decoder_with_shared_key_heads_too():
    found = compiled("smollm2_135m", dict(data=-1), length=1984, most=8)
    assert found["kernels"] == ["cudnn packed"] and found["square"] == []
    assert found["masks"] == ["PADDING_CAUSAL"] and found["segments"] == [9]


def test_a_window_travels_as_a_bias():
    found = compiled("modernbert_base", dict(data=-1), length=960, most=8)
    assert found["kernels"] == ["cudnn", "cudnn packed"] and found["square"] != []
    assert {"fmhaScaleBiasSoftmax", "fmhaSoftmax"} <= set(found["calls"])
