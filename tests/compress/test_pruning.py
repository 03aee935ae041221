"""Pruning against float64 numpy, and what is pruned through training."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.compress.calibration import Inputs
from jaxlm.compress.pruning import Prune
from jaxlm.errors import UserError
from jaxlm.models.paths import flatten
from jaxlm.views import KeepZeros
from jaxlm.views.beside import MATRICES
from jaxlm.views.view import Facts, facts
from tests.compress import models

ONE = Facts(("layers", "heads", "head_dim", "embed"), 2)
SHAPE = (2, 3, 16, 5)
HALF = Prune(weights=MATRICES, share=0.5, of=0, by="magnitude")


@pytest.fixture(scope="module")
def seen():
    """(weight, what comes in of every layer [L, R, I])."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((48, 48)) * np.exp(rng.standard_normal(48))[None]
    return rng.standard_normal(SHAPE).astype(np.float32), np.stack([rng.standard_normal((300, 48)) @ mix] * 2)


def inputs(x_LRI) -> Inputs:
    made = (np.einsum("lri,lrj->lij", x_LRI, x_LRI), np.abs(x_LRI).max(1), np.abs(x_LRI).sum(1))
    return Inputs(*(jnp.asarray(a, jnp.float32) for a in made))


def lost(weight, made, x_LRI) -> float:
    error = (np.asarray(made, np.float64) - weight).reshape(2, 48, 5)
    return float(np.square(np.einsum("lri,lio->lro", x_LRI, error)).mean())


@pytest.mark.parametrize("by", ["magnitude", "wanda"])
def test_the_least_half_of_every_output_is_0(seen, by):
    weight, x_LRI = seen
    rule = dataclasses.replace(HALF, by=by)
    made = np.asarray(rule.pruned(ONE, jnp.asarray(weight), inputs(x_LRI) if by == "wanda" else None))
    size = np.abs(weight).reshape(2, 48, 5) * (
        np.linalg.norm(x_LRI, axis=1)[..., None] if by == "wanda" else 1
    )
    kept = size >= np.sort(size, axis=1)[:, 24:25]
    np.testing.assert_array_equal(made.reshape(2, 48, 5), weight.reshape(2, 48, 5) * kept)


@pytest.mark.parametrize("by", ["magnitude", "wanda", "sparsegpt"])
def test_two_of_four_are_0(seen, by):
    weight, x_LRI = seen
    rule = dataclasses.replace(HALF, of=4, by=by)
    made = rule.pruned(ONE, jnp.asarray(weight), None if by == "magnitude" else inputs(x_LRI))
    zeros = (np.asarray(made).reshape(2, 12, 4, 5) == 0).sum(2)
    assert (zeros == 2).all()


def test_each_makes_good_what_the_one_before_loses(seen):
    weight, x_LRI = seen
    found = [
        lost(weight, dataclasses.replace(HALF, by=by).pruned(ONE, jnp.asarray(weight), inputs(x_LRI)), x_LRI)
        for by in ("magnitude", "wanda", "sparsegpt")
    ]
    plain = lost(weight, HALF.pruned(ONE, jnp.asarray(weight), None), x_LRI)
    assert found[2] < found[1] / 1.2 and found[1] < plain


def test_sparsegpt_leaves_what_least_squares_would_leave_where_one_input_goes(seen):
    """Of one block whose last rows alone are pruned the weights before them stay; the error of a pruned weight goes to
    those behind it as the optimal brain surgeon has it (equation 3 of 2301.00774)."""
    weight, x_LRI = seen
    rule = Prune(weights=MATRICES, share=1 / 48, of=0, by="sparsegpt")
    w = np.asarray(weight, np.float64).reshape(2, 48, 5)[0]
    # of blocks of 16, a third of a weight is none: nothing is pruned
    made = np.asarray(rule.pruned(ONE, jnp.asarray(weight), inputs(x_LRI))).reshape(2, 48, 5)[0]
    np.testing.assert_allclose(made, w, atol=1e-6)
    rule = Prune(weights=MATRICES, share=1 / 16, of=16, by="sparsegpt")
    made = np.asarray(rule.pruned(ONE, jnp.asarray(weight), inputs(x_LRI)), np.float64).reshape(2, 48, 5)[0]
    hessian = x_LRI[0].T @ x_LRI[0]
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(48)
    left = w.copy()
    for block in range(3):
        rows = range(16 * block, 16 * block + 16)
        behind = {i: np.linalg.inv(hessian[i:, i:]) for i in rows}
        score = np.stack([left[i] ** 2 / behind[i][0, 0] for i in rows])
        gone = score.argmin(0)
        for i, output in itertools.product(rows, range(5)):
            if gone[output] == i - rows[0]:
                left[i:, output] -= behind[i][:, 0] * left[i, output] / behind[i][0, 0]
                left[i, output] = 0
    np.testing.assert_allclose(made, left, atol=2e-3)


def test_a_model_is_pruned_and_keeps_its_zeros(tmp_path):
    model = models.opened(models.decoder(tmp_path / "decoder"))
    made = HALF.apply(model, None, print)
    known, after = facts(model.model), flatten(made.params)
    view = KeepZeros(weights=MATRICES)
    trained, frozen = view.split(after, known, jax.random.key(0))
    moved = {path: array + 1 for path, array in trained.items()}
    merged = view.merge(moved, frozen)
    for path, array in after.items():
        named = known[path].inputs and "/w" in path
        assert not named or abs(float((array == 0).mean()) - 0.5) < 0.01
        expected = (
            np.where(np.asarray(array) == 0, 0, np.asarray(array) + 1) if named else np.asarray(array) + 1
        )
        np.testing.assert_array_equal(merged[path], expected)
    gradient = jax.grad(lambda t: sum((a**2).sum() for a in view.merge(t, frozen).values()))(moved)
    zeros = np.asarray(after["blocks/mlp/w_in"]) == 0
    assert zeros.any() and (np.asarray(gradient["blocks/mlp/w_in"])[zeros] == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 1.0}, "share=1.0: must be above 0 and below 1"),
        ({"of": 4, "share": 0.4}, "0.4 of 4 neighbours is no whole number"),
        ({"weights": "("}, "weights"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(HALF, **change).validate("config.steps[0]")


def test_a_pattern_without_a_matrix_is_named(tmp_path):
    model = models.opened(models.decoder(tmp_path / "decoder"))
    with pytest.raises(UserError, match="names no matrix. There are: .*blocks/mlp/w_in"):
        dataclasses.replace(HALF, weights="nothing").check(model)
    with pytest.raises(UserError, match="groups of 5 do not divide"):
        dataclasses.replace(HALF, of=5, share=0.2).check(model)
