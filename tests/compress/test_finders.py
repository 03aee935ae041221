"""GPTQ, AWQ and SmoothQuant against plain loops in float64 numpy, and against rounding on the activations they saw."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.compress.calibration import Inputs
from jaxlm.compress.gptq import GPTQ
from jaxlm.compress.scaling import AWQ, Outliers, Smooth
from jaxlm.errors import UserError
from jaxlm.models import quantised
from jaxlm.models.values import whole
from jaxlm.views.rounding import Rounding
from jaxlm.views.view import Facts

ONE = Facts(("layers", "heads", "head_dim", "embed"), 2)
SHAPE = (2, 3, 16, 5)
FOUR = Rounding(weights=".*", kind="int4", group=16, low=False, activations="float")
LOW = Rounding(weights=".*", kind="int4", group=16, low=True, activations="float")
EIGHT = Rounding(weights=".*", kind="int8", group=0, low=False, activations="int8")


@pytest.fixture(scope="module")
def seen():
    """(weight, what comes in of every layer [L, R, I]): inputs of unlike sizes that depend on each other."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((48, 48)) * np.exp(rng.standard_normal(48))[None]
    x_LRI = np.stack([rng.standard_normal((300, 48)) @ mix for _ in range(2)])
    return rng.standard_normal(SHAPE).astype(np.float32), x_LRI


def inputs(x_LRI) -> Inputs:
    made = (np.einsum("lri,lrj->lij", x_LRI, x_LRI), np.abs(x_LRI).max(1), np.abs(x_LRI).sum(1))
    return Inputs(*(jnp.asarray(a, jnp.float32) for a in made))


def lost(weight, value, x_LRI) -> np.ndarray:
    """Of every layer, the mean squared error of its results."""
    error = (np.asarray(whole(value), np.float64) - weight).reshape(2, 48, 5)
    return np.square(np.einsum("lri,lio->lro", x_LRI, error)).mean((1, 2))


def of_paper(w_IO, x_RI, scale_GO, low_GO, damping):
    """GPTQ as its paper has it: one input after the other, the rest by the inverse that is left (equations 2 and 3)."""
    w, hessian = w_IO.astype(np.float64), 2 * x_RI.T @ x_RI
    hessian = hessian + damping * np.diag(hessian).mean() * np.eye(len(w))
    order, left = np.argsort(-np.diag(2 * x_RI.T @ x_RI), kind="stable"), list(range(len(w)))
    codes = np.zeros(w.shape, int)
    for i in order:
        inverse = np.linalg.inv(hessian[np.ix_(left, left)])
        at = left.index(i)
        g = i // (len(w) // len(scale_GO))
        codes[i] = np.clip(np.rint((w[i] - low_GO[g]) / scale_GO[g]), -8, 7)
        error = (w[i] - (codes[i] * scale_GO[g] + low_GO[g])) / inverse[at, at]
        w[left] -= inverse[:, at][:, None] * error
        left.remove(i)
    return codes


@pytest.mark.parametrize("rule", [FOUR, LOW], ids=["symmetric", "lowest"])
def test_gptq_is_that_of_its_paper(seen, rule):
    weight, x_LRI = seen
    found = GPTQ(damping=0.01).found("w", ONE, jnp.asarray(weight), rule, inputs(x_LRI))
    for layer in range(2):
        scale = np.asarray(found.scale[layer], np.float64).reshape(3, 5)
        low = 0 * scale if found.low is None else np.asarray(found.low[layer], np.float64).reshape(3, 5)
        expected = of_paper(weight[layer].reshape(48, 5), x_LRI[layer], scale, low, 0.01)
        # float32 may fall to the other side of a half; such a code moves those that follow.
        assert (np.asarray(found.codes[layer].astype(jnp.int8)).reshape(48, 5) == expected).mean() > 0.97


def test_gptq_halves_what_rounding_loses(seen):
    weight, x_LRI = seen
    rounded = lost(weight, FOUR.nearest("w", ONE, jnp.asarray(weight)), x_LRI)
    found = lost(weight, GPTQ(damping=0.01).found("w", ONE, jnp.asarray(weight), FOUR, inputs(x_LRI)), x_LRI)
    assert (found < rounded / 2).all()


def test_inputs_that_never_come_are_rounded_to_the_nearest(seen):
    weight, x_LRI = seen
    x_LRI = x_LRI * (np.arange(48) != 7)
    found = GPTQ(damping=0.01).found("w", ONE, jnp.asarray(weight), FOUR, inputs(x_LRI))
    nearest = FOUR.nearest("w", ONE, jnp.asarray(weight))
    assert np.isfinite(np.asarray(found.full())).all()
    at = (slice(None), 0, 7)
    np.testing.assert_array_equal(found.codes.astype(jnp.int8)[at], nearest.codes.astype(jnp.int8)[at])


def test_awq_takes_the_exponent_that_loses_least(seen):
    weight, x_LRI = seen
    found = AWQ(grid=10).found("w", ONE, jnp.asarray(weight), FOUR, inputs(x_LRI))
    tried = []
    for exponent in range(10):
        mean = np.abs(x_LRI).sum(1) / np.abs(x_LRI).sum(1).mean(-1, keepdims=True)
        s = np.maximum(mean, 1e-4) ** (exponent / 10)
        s = (
            (s / np.sqrt(s.max(-1, keepdims=True) * s.min(-1, keepdims=True)))
            .reshape(2, 3, 16, 1)
            .astype(np.float32)
        )
        made = quantised.encode(jnp.asarray(weight * s), (2, 3, 1, 5), "int4").full() / s
        tried.append(lost(weight, made, x_LRI))
    np.testing.assert_allclose(lost(weight, found, x_LRI), np.min(tried, axis=0), rtol=1e-3)
    assert (np.min(tried, axis=0) < tried[0]).all()  # rounding alone


def test_smoothing_moves_outliers_into_the_weights(seen):
    weight, x_LRI = seen
    x_LRI = x_LRI * np.where(np.arange(48) == 5, 100, 1)
    found = Smooth(strength=0.5).found("w", ONE, jnp.asarray(weight), EIGHT, inputs(x_LRI))
    flat = np.abs(weight).reshape(2, 48, 5).max(-1)
    s = np.sqrt(np.abs(x_LRI).max(1) / flat)
    np.testing.assert_allclose(1 / np.asarray(found.inner).reshape(2, 48), s, rtol=1e-5)
    plain = EIGHT.nearest("w", ONE, jnp.asarray(weight))

    def error(value, layer):
        one = jax.tree.map(lambda a: a[layer], value)
        x = jnp.asarray(x_LRI[layer].reshape(-1, 3, 16), jnp.float32)
        exact = x_LRI[layer] @ weight[layer].reshape(48, 5)
        return np.square(np.asarray(one.product(x, 2, None)) - exact).mean()

    assert error(found, 0) < error(plain, 0) / 4


def test_outliers_stay_as_they_are(seen):
    weight, x_LRI = seen
    x_LRI = x_LRI * np.where(np.isin(np.arange(48), (5, 30)), 1000, 1)
    finder = Outliers(inputs=2, rest=Smooth(strength=0.5))
    found = finder.found("w", ONE, jnp.asarray(weight), EIGHT, inputs(x_LRI))
    assert sorted(np.asarray(found.at_K[1])) == [5, 30]
    flat, made = weight.reshape(2, 48, 5), np.asarray(found.full()).reshape(2, 48, 5)
    np.testing.assert_array_equal(made[:, [5, 30]], flat[:, [5, 30]])
    assert np.abs(made - flat).max() < 0.05
    one, x = jax.tree.map(lambda a: a[1], found), x_LRI[1].astype(np.float32)
    got = one.product(jnp.asarray(x.reshape(-1, 3, 16)), 2, None)
    exact = x_LRI[1] @ flat[1]
    rest = x_LRI[1] * ~np.isin(np.arange(48), (5, 30)) @ flat[1]
    assert np.square(got - exact).mean() < 1e-3 * np.square(rest).mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": -1}, "group=-1: must be 0"),
        ({"kind": "nf4", "low": True}, "nf4 is spaced around 0"),
        ({"activations": "int8"}, 'Fix: kind="int8", group=0'),
        ({"weights": "("}, "weights"),
    ],
)
def test_what_does_not_go_together_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(FOUR, **change).validate("config.steps[0].rules[0]")


def test_a_group_that_does_not_divide_is_refused_with_those_that_do():
    with pytest.raises(
        UserError, match=r"w has 48 inputs \(3 x 16\), which groups of 32 do not divide. Fix: a group of 16"
    ):
        dataclasses.replace(FOUR, group=32).blocks("w", ONE, SHAPE)
