"""Claims about layers on several stages: the same as on one device, terms count once, what cannot be is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxlm.errors import UserError
from jaxlm.models import pipeline
from jaxlm.models.encoded import Extras

LAYERS, ROWS, LENGTH, WIDTH = 6, 12, 3, 5


def layers(weights, keys, x_BTD, rows):
    """x tanh'd through every weight, and added to what every row has of its own and to what all share."""
    scale_B, shared = rows

    def one(x, weight):
        x = jnp.tanh(x @ weight) * scale_B[:, None, None] + shared.value
        return x, Extras(terms={"size": (jnp.square(x).sum(), jnp.float32(len(x)))})

    return jax.lax.scan(one, x_BTD, weights)


@pytest.mark.parametrize("stages", [2, 3])
def test_stages_give_what_one_device_gives(stages):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    arrays = draw(LAYERS, WIDTH, WIDTH), draw(ROWS, LENGTH, WIDTH), draw(ROWS), draw(LENGTH, WIDTH)

    def sums(run, weights, x_BTD, scale_B, shared):
        x_BTD, extras = run(weights, x_BTD, (scale_B, pipeline.Shared(shared)))
        total, weight = (part.sum() for part in extras.terms["size"])
        return (x_BTD * jnp.arange(ROWS)[:, None, None]).sum() + total / weight, (x_BTD, weight)

    graded = lambda run: jax.value_and_grad(
        lambda *arrays: sums(run, *arrays), argnums=(0, 1, 2, 3), has_aux=True
    )
    plain = jax.jit(graded(lambda weights, x, rows: layers(weights, None, x, rows)))(*arrays)
    mesh = jax.make_mesh((2, stages), ("data", "stage"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        staged = jax.jit(graded(lambda weights, x, rows: pipeline.run(layers, weights, None, x, rows)))(
            *arrays
        )
    for expected, found in zip(jax.tree.leaves(plain), jax.tree.leaves(staged), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_dropout_is_another_for_every_micro_batch():
    keys = jax.random.split(jax.random.key(0), LAYERS)
    draw = lambda _, keys, x_BTD, rows: (jax.random.normal(keys[0], x_BTD.shape) + 0 * x_BTD, Extras())
    mesh = jax.make_mesh((2,), ("stage",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        run = jax.jit(lambda x: pipeline.run(draw, jnp.zeros((LAYERS, 1)), keys, x, ())[0])
        drawn = np.asarray(run(jnp.zeros((ROWS, LENGTH, WIDTH))))
    assert len(np.unique(drawn[:, 0, 0])) == ROWS


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"stage=4: 6 layers do not divide.*one of 1, 2, 3, 6"):
        pipeline.check(6, 4, 1)
    with pytest.raises(UserError, match=r"stage=2: 21 layers, whose 3 kinds take turns.*one of 1, 7"):
        pipeline.check(21, 2, 3)
    mesh = jax.make_mesh((2,), ("stage",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh), pytest.raises(UserError, match=r"stage=2: all layers .* same weights.*stage=1"):
        pipeline.check_shared()


def test_the_bubble_is_what_the_rounds_leave():
    """12 rows a device: 6 parts for each of 4 stages, 24 rounds of work in 27."""
    assert pipeline.parts(12) == 6 and pipeline.bubble(12, 4) == pytest.approx(3 / 27)
    assert pipeline.bubble(7, 1) == 0
