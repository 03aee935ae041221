"""Claims about layers on several stages: the same as on one device, terms count once, what cannot be is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxlm.errors import UserError
from jaxlm.models import pipeline
from jaxlm.models.encoded import Extras

LAYERS, ROWS, LENGTH, WIDTH = 6, 24, 3, 5


def layers(weights, keys, x_BTD, rows):
    """x tanh'd through every weight, and added to what every row has of its own and to what all share."""
    scale_B, shared = rows

    def one(x, weight):
        x = jnp.tanh(x @ weight) * scale_B[:, None, None] + shared.value
        return x, Extras(terms={"size": (jnp.square(x).sum(), jnp.float32(len(x)))})

    return jax.lax.scan(one, x_BTD, weights)


@pytest.mark.parametrize("stages, repeats", [(2, 1), (3, 1), (2, 3), (3, 2), (2, 2), (4, 2)])
def test_stages_give_what_one_device_gives(stages, repeats):
    """4 times 2: what is traded comes from stages that are not each other's only partners."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    weights = draw(LAYERS if LAYERS % (stages * repeats) == 0 else 8, WIDTH, WIDTH)
    arrays = weights, draw(ROWS, LENGTH, WIDTH), draw(ROWS), draw(LENGTH, WIDTH)

    def sums(run, weights, x_BTD, scale_B, shared):
        x_BTD, extras = run(weights, x_BTD, (scale_B, pipeline.Shared(shared)))
        total, weight = (part.sum() for part in extras.terms["size"])
        return (x_BTD * jnp.arange(ROWS)[:, None, None]).sum() + total / weight, (x_BTD, weight)

    graded = lambda run: jax.value_and_grad(
        lambda *arrays: sums(run, *arrays), argnums=(0, 1, 2, 3), has_aux=True
    )
    plain = jax.jit(graded(lambda weights, x, rows: layers(weights, None, x, rows)))(*arrays)
    run = lambda weights, x, rows: pipeline.run(layers, weights, None, x, rows, repeats=repeats)
    mesh = jax.make_mesh((2, stages), ("data", "stage"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        staged = jax.jit(graded(run))(*arrays)
    for expected, found in zip(jax.tree.leaves(plain), jax.tree.leaves(staged), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_dropout_is_another_for_every_micro_batch_and_layer_however_often_they_go_round():
    """The bits of a layer are those of its number and its micro-batch's, whichever stage computes it."""
    keys = jax.random.split(jax.random.key(0), LAYERS)

    def draw(numbers, keys, x_BTD, rows):
        drawn = jax.vmap(lambda key: jax.random.normal(key, x_BTD.shape))(keys)
        return x_BTD + jnp.tensordot(numbers[:, 0], drawn, 1), Extras(sums=drawn[:, 0, 0, 0])

    found = {}
    mesh = jax.make_mesh((2,), ("stage",), axis_types=(AxisType.Auto,))
    for repeats in (1, 3):
        run = lambda x, repeats=repeats: pipeline.run(
            draw, jnp.arange(LAYERS * 1.0)[:, None], keys, x, (), repeats=repeats
        )
        with jax.set_mesh(mesh):
            x_BTD, extras = jax.jit(run)(jnp.zeros((ROWS, LENGTH, WIDTH)))
        found[repeats] = np.asarray(x_BTD), np.asarray(extras.sums)
        assert (
            len(np.unique(found[repeats][0][:, 0, 0])) == ROWS and len(np.unique(found[repeats][1])) == LAYERS
        )
    for one, other in zip(*found.values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)


def test_stages_trade_every_group_once():
    for stages, repeats in itertools.product(range(2, 13), range(1, 13)):
        got = {stage: {} for stage in range(stages)}
        for sends, to, places in pipeline.turns(stages, repeats):
            assert sorted(to) == list(range(stages))
            for stage, (own, other) in enumerate(zip(sends, to, strict=True)):
                got[other][places[other]] = stage * repeats + own
        for stage, groups in got.items():
            assert groups == {round: round * stages + stage for round in range(repeats)}


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"stage=4: 6 layers do not divide.*one of 1, 2, 3, 6"):
        pipeline.check(6, 4, 1)
    with pytest.raises(UserError, match=r"stage=2: 21 layers, whose 3 kinds take turns.*one of 1, 7"):
        pipeline.check(21, 2, 3)
    with pytest.raises(
        UserError, match=r"model.stage_repeats=3: 24 layers do not.*mesh.stage=3 .*one of 1, 2, 4, 8"
    ):
        pipeline.check(24, 3, 1, 3)
    mesh = jax.make_mesh((2,), ("stage",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh), pytest.raises(UserError, match=r"stage=2: all layers .* same weights.*stage=1"):
        pipeline.check_shared()


def test_the_bubble_is_what_the_rounds_leave():
    """12 rows a device: 6 parts for each of 4 stages, 24 steps of work in 27; 3 times round, 72 in 75."""
    bubble = lambda *how: pipeline.Schedule.of(*how).bubble
    assert pipeline.parts(12) == 6 and bubble(12, 4) == pytest.approx(3 / 27)
    assert bubble(12, 4, 3) == pytest.approx(3 / 75)
    assert bubble(7, 1) == bubble(7, 1, 2) == 0
