"""Law: every recipe in configs/ loads, checks, and builds its model, optimizer and shardings without a number."""

import ast
import pathlib

import jax
import pytest

from jaxlm.config import flags
from jaxlm.models.build import build
from jaxlm.optim.horizon import Horizon
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import Mesh
from jaxlm.step import new_state

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_builds_abstractly(path):
    run = flags.load(path)
    model = build(run.model, run.heads)
    horizon = Horizon(
        tuple(
            (b - a, run.batch_size * s.length)
            for (a, b), s in zip(run.stage_steps(), run.stages, strict=True)
        )
    )
    optimizer = run.optimizer.make(horizon, model.axes)
    create = lambda key: new_state(model.init(key), optimizer, ema=run.ema_decay > 0)
    abstract = jax.eval_shape(create, jax.random.key(0))
    mesh = meshes.make(Mesh(fsdp=4, tensor=2))
    shardings = partition.shardings(abstract, model.axes, mesh)
    assert len(jax.tree.leaves(shardings)) == len(jax.tree.leaves(abstract))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_states_command_and_expectation(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"--config=configs/{path.name}" in text
    assert "Expect" in text
