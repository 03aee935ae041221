"""Gradients that are summed into parts: the same numbers, and nothing whole travels."""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm.models import parted
from jaxlm.models.dense import dense
from jaxlm.partition import mesh as meshes
from tests import xla

ROWS = ("data", "fsdp")
MESH = jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ROWS, axis_types=(AxisType.Auto,) * 2)


def placed(a, *spec):
    return jax.device_put(jnp.asarray(a, jnp.float32), NamedSharding(MESH, PartitionSpec(*spec)))


@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("dimension", [0, 1])
def test_the_gradient_of_a_product_is_that_of_float64_and_goes_in_parts(lines, dimension):
    rng = np.random.default_rng(0)
    x, w, g = rng.normal(size=(16, 3, 8)), rng.normal(size=(8, 12)), rng.normal(size=(16, 3, 12))
    split = [None, None]
    split[dimension] = "fsdp"

    def gradient(w, x, g):
        made = lambda w: parted.of(w, PartitionSpec(*split), "fsdp", lines)
        return jax.grad(lambda w, x: (dense(x, made(w)) * g).sum(), (0, 1))(w, x)

    with jax.set_mesh(MESH):
        step = jax.jit(gradient, out_shardings=(placed(w, *split).sharding, placed(x, ROWS).sharding))
        arguments = placed(w, *split), placed(x, ROWS), placed(g, ROWS)
        of_w, of_x = step(*arguments)
        text = step.lower(*arguments).compile().as_text()
    np.testing.assert_allclose(of_w, np.einsum("btd,btf->df", x, g), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_x, g @ w.T, rtol=1e-5, atol=1e-5)
    assert len(re.findall(r" reduce-scatter\(", text)) == lines  # one step, or two along 2 x 2
    assert not re.search(r"f32\[8,12\]\S* all-reduce\(", text)  # over data goes what is left


def test_sums_of_bfloat16_do_not_end_the_process():
    """XLA:CPU cannot have those of a whole step; here they are of float32."""
    words = [
        "--config.precision=bfloat16",
        "--config.mesh.fsdp=2",
        "--config.mesh.data=2",
        "--config.batch_size=16",
    ]
    environment = {**os.environ, "XLA_FLAGS": xla.flags(4)}
    command = [sys.executable, "-m", "tests.runtime.peak", "quickstart", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-800:]


def test_it_may_stand_where_another_axis_is_mapped_already():
    """As in a stage of a pipeline."""
    rng = np.random.default_rng(0)
    x, w, g = rng.normal(size=(16, 8)), rng.normal(size=(8, 12)), rng.normal(size=(16, 12))

    def gradient(w, x, g):
        made = lambda w: parted.of(w, PartitionSpec("fsdp"), "fsdp", 1)
        return jax.grad(lambda w: (dense(x, made(w)) * g).sum())(w)[None]

    mapped = jax.shard_map(
        gradient,
        in_specs=(PartitionSpec(), PartitionSpec("data"), PartitionSpec("data")),
        out_specs=PartitionSpec("data"),
        axis_names={"data"},
        check_vma=False,
    )
    with jax.set_mesh(MESH):
        found = jax.jit(mapped)(placed(w, "fsdp"), placed(x, ROWS), placed(g, ROWS))
    wanted = [x[half].T @ g[half] for half in (slice(8), slice(8, 16))]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_look_up_is_that_of_float64():
    rng = np.random.default_rng(0)
    table, g, ids = rng.normal(size=(10, 8)), rng.normal(size=(16, 3, 8)), rng.integers(0, 10, (16, 3))

    def gradient(table, ids, g):
        made = lambda table: parted.of(table, PartitionSpec(None, "fsdp"), "fsdp", 2)
        return jax.grad(lambda table: (made(table)[ids] * g).sum())(table)

    with jax.set_mesh(MESH):
        found = jax.jit(gradient)(placed(table, None, "fsdp"), jnp.asarray(ids), placed(g, ROWS))
    wanted = np.zeros((10, 8))
    np.add.at(wanted, ids, g)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_transposed_weight_has_its_parts_where_they_were():
    weight = parted.of(jnp.zeros((8, 12)), PartitionSpec("fsdp"), "fsdp", 1)
    assert weight.parts.dimension == -2
    assert weight.T.parts.dimension == -1
    assert weight.T.T.parts == weight.parts


def test_what_no_axis_alone_splits_stays_an_array():
    array = jnp.zeros((8, 12))
    for spec in (PartitionSpec(), PartitionSpec(None, "tensor"), PartitionSpec(("data", "fsdp"))):
        assert parted.of(array, spec, "fsdp", 1) is array


def test_lines_of_a_torus():
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(8), indexing="ij"), -1).reshape(-1, 2)
    assert meshes.lines_of(grid) == 4
    assert meshes.lines_of(grid[:, ::-1]) == 4
    snake = np.array([(x, y if x % 2 == 0 else 7 - y) for x, y in grid])
    assert meshes.lines_of(snake) == 1
    assert meshes.lines_of(grid[:8]) == 8  # one line, every device a line of its own: one step
    assert meshes.lines_of(np.zeros((8, 0))) == 1
    cube = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert meshes.lines_of(cube) == 4
    assert meshes.lines(MESH, "fsdp") == 1  # CPUs lie on none
