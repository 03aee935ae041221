"""Law: every recipe in configs/ loads, checks, and builds its model, optimizer and shardings without a number."""

import ast
import pathlib

import jax
import pytest

from jaxlm.config import flags, recipes
from jaxlm.models import cost
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.run.program import Program

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted(recipes.shipped().values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_builds_abstractly(path):
    run = flags.load(path)
    program = Program.of(run, meshes.make(Mesh(fsdp=4, tensor=2)))
    counted = f"Parameters  {cost.count_real_parameters(program.model):,}\n"
    assert counted in path.read_text(), (
        f"its docstring must have the line {counted!r}, which `jaxlm recipes` reads"
    )
    assert all(
        leaf.sharding.mesh == program.mesh for leaf in jax.tree.leaves((program.state, program.params))
    )


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_states_command_and_expectation(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"--config=configs/{path.name}" in text
    assert "Expect" in text
