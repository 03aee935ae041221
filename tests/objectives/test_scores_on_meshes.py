"""The chunked loss on meshes: what it was on one device, and weights that travel once, however many chunks there are."""

import dataclasses
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.config import flags
from jaxlm.models import cost
from jaxlm.models.build import build
from jaxlm.objectives import scores
from jaxlm.objectives.targets import TokenTargets
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
B, T, D, V = 8, 22, 16, 512
SMALL = dict(
    vocab_size=V - 5, hidden=D, layers=2, encoder_layers=2, decoder_layers=2, heads=2, kv_heads=2, mlp=24
)
SMALL |= dict(head_dim=8, embedding=D, max_positions=T)
# One family for every kind of head: narrower than the blocks, with a transform and a bias, tied, untied, scaled.
HEADS = ["albert_base", "bert_base", "gpt2_small", "llama_7b", "modernbert_base", "t5_base"]


def small(recipe):
    run = flags.load(str(CONFIGS / f"{recipe}.py"))
    model = run.model
    fields = {f.name for f in dataclasses.fields(model)}
    return build(dataclasses.replace(model, **{k: v for k, v in SMALL.items() if k in fields}), run.heads)


def case(model):
    """Weights, features and targets; rows of very different numbers of targets, one without any."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32), model.shapes)
    zero = np.zeros((B, T), np.int32)
    share = np.linspace(0, 1, B)[:, None]
    batch = Batch(
        tokens_BT=zero,
        segments_BT=zero,
        positions_BT=zero,
        targets=TokenTargets(
            ids_BM=rng.integers(0, V - 5, (B, T)).astype(np.int32),
            weights_BM=(rng.random((B, T)) < share).astype(np.float32),
        ),
    )
    return params, jnp.asarray(rng.normal(size=(B, T, D)), jnp.float32), batch


def scored(model, params, x_BTD, batch, **settings):
    logits = scores.token_logits(model.bind(params), x_BTD, batch.targets)
    return scores.of_tokens(logits, batch.targets.ids_BM, "lm", **settings)


def compiled(model, chunk, grid, *arguments):
    def loss(params, x_BTD, batch):
        made = scored(model, params, x_BTD, batch, chunk=chunk, z_loss=1e-2, label_smoothing=0.1)
        return made.terms["lm"][0], made.measures

    where = partition.shardings(model.shapes, model.axes, grid)
    rows = partition.batch_sharding(grid)
    put = jax.device_put(arguments, (where, rows, rows))
    step = jax.value_and_grad(loss, (0, 1), has_aux=True)
    with jax.set_mesh(grid):
        program = jax.jit(step, out_shardings=(None, (where, rows))).lower(*put).compile()
    return program, put


def travels(text, least):
    """How often an array of at least `least` entries is gathered or reduced in one run; loop bodies times their rounds."""
    bodies = dict(re.findall(r"^(?:ENTRY )?%?([\w.\-]+) [^\n]*\{\n(.*?)^\}", text, re.M | re.S))
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.M).group(1)

    def inside(name):
        total = 0
        for line in bodies[name].splitlines():
            moved = re.search(
                r" = (.*?) (?:all-gather|all-reduce|reduce-scatter|all-to-all)(?:-start)?\(", line
            )
            if moved:
                shapes = re.findall(r"\[([\d,]+)\]", moved.group(1))
                total += max((math.prod(map(int, s.split(","))) for s in shapes), default=0) >= least
            rounds = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            assert rounds or " while(" not in line, f"a loop without a count: {line}"
            for called in re.findall(r"(?:body|to_apply|calls)=%?([\w.\-]+)", line):
                total += inside(called) * (int(rounds.group(1)) if rounds else 1)
        return total

    return inside(entry)


@pytest.mark.parametrize("recipe", HEADS)
def test_value_measures_and_gradients_are_those_of_one_device(recipe):
    model = small(recipe)
    program, arguments = compiled(model, 0, meshes.make(Mesh(), jax.devices()[:1]), *case(model))
    (wanted, wanted_measures), wanted_grads = program(*arguments)
    grid = meshes.make(Mesh(data=2, fsdp=2, tensor=2))
    program, arguments = compiled(model, 4, grid, *case(model))  # leaves a rest of 2 positions
    (value, measures), grads = program(*arguments)
    np.testing.assert_allclose(value, wanted, rtol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), measures, wanted_measures)
    for got, right in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "axes", [dict(fsdp=8), dict(data=2, fsdp=2, tensor=2), dict(data=4, tensor=2)], ids=str
)
@pytest.mark.parametrize("recipe", ["bert_base", "llama_7b"])
def test_weights_travel_as_often_for_many_chunks_as_for_two(recipe, axes):
    model, grid = small(recipe), meshes.make(Mesh(**{"data": 1, **axes}))
    part = (
        V * D // grid.shape["tensor"] // grid.shape["fsdp"]
    )  # of the table; everything else here is smaller
    few, many = (travels(compiled(model, n, grid, *case(model))[0].as_text(), part) for n in (11, 2))
    assert 1 <= many == few <= 3


def test_operations_are_counted_over_all_devices():
    model = small("llama_7b")
    params, x_BTD, batch = case(model)
    value = lambda params, x_BTD: scored(model, params, x_BTD, batch, chunk=4).terms["lm"][0]
    with jax.set_mesh(meshes.make(Mesh(data=2, fsdp=2, tensor=2))):
        assert cost.forward_flops(value, params, x_BTD) == 2 * B * T * D * V


def test_rows_that_the_mesh_cannot_split_evenly_are_computed_all_the_same():
    model = small("llama_7b")
    params, x_BTD, batch = case(model)
    odd = jax.tree.map(lambda a: a[:5], (x_BTD, batch))
    value = lambda: scored(model, params, *odd, chunk=4).terms["lm"][0]
    with jax.set_mesh(meshes.make(Mesh(data=1, fsdp=8))):
        on_mesh = jax.jit(value)()
    np.testing.assert_allclose(on_mesh, jax.jit(value)(), rtol=2e-6)
