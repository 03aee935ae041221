"""Claims about memory, measured in a process of its own: a checkpoint of several shards is never on the host whole."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxlm.convert import families, llama, table
from jaxlm.formats import safetensors_file
from jaxlm.models import rope
from jaxlm.models.build import build
from jaxlm.models.llama import Llama
from jaxlm.models.paths import flatten

ROOT = pathlib.Path(__file__).parents[2]
SHARDS = 7
SLACK = 80  # MiB: what allocators and thread pools keep; 20 to 65 were seen
CONFIG = Llama(
    vocab_size=1000,
    hidden=256,
    layers=128,
    heads=4,
    kv_heads=4,
    head_dim=64,
    mlp=256,  # seven matrices of one size, so that the largest parameter is a seventh of the model
    activation="silu",
    max_positions=64,
    rope=rope.Rope(base=1e4, scaling=rope.Unscaled()),
    norm_epsilon=1e-6,
    embeddings="tied",
    biases="none",
    qk_norm="none",
    windows=(0,),
    init_scale=0.02,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    (folder / "hf").mkdir()
    shapes = table.their_shapes(llama.rows(CONFIG), flatten(build(CONFIG).shapes), families.sizes(CONFIG))
    weight_map = {}
    for i in range(SHARDS):
        names, file = list(shapes)[i::SHARDS], f"model-{i + 1:05d}-of-{SHARDS:05d}.safetensors"
        places = safetensors_file.create(
            folder / "hf" / file, {name: (shapes[name], np.float32) for name in names}
        )
        for name in names:
            places.array(name)[...] = 1.0
        weight_map |= dict.fromkeys(names, file)
    (folder / "hf" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "hf" / "config.json").write_text(json.dumps(llama.to_hf_config(CONFIG)))
    return folder


def measured(mode: str, folder) -> list[float]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    program = [sys.executable, str(pathlib.Path(__file__).with_name("memory_program.py")), mode, str(folder)]
    result = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    return [float(word) for word in result.stdout.splitlines()[-1].split()]


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="reads /proc")
def test_reading_holds_the_parameters_and_one_more_of_them_at_most(checkpoint):
    whole, largest, grown = measured("place", checkpoint)
    assert whole > 200 and grown < whole + 1.5 * largest + SLACK, (whole, largest, grown)


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="reads /proc")
def test_writing_holds_three_copies_of_one_parameter_at_most(checkpoint):
    whole, largest, grown = measured("export", checkpoint)
    assert grown < 3 * largest + SLACK < whole, (whole, largest, grown)
