"""Claims about every optimizer: it descends, under jit, in float32, decays matrices only, and treats a stack of layers
as it would treat the layers; plus what a config refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.optim import optimizers, schedules, transforms
from jaxlm.optim.horizon import Horizon

HORIZON = Horizon(((100, 8),))
AXES = {
    "table": ("vocab", "embed"),
    "norm": ("embed",),
    "blocks": {
        "wq": ("layers", "embed", "heads", "head_dim"),
        "bq": ("layers", "heads", "head_dim"),
        "wo": ("layers", "heads", "head_dim", "embed"),
        "w_in": ("layers", "embed", "mlp"),
    },
}
L, V, D, N, H, F = 3, 11, 6, 2, 5, 7
SHAPES = {
    "table": (V, D),
    "norm": (D,),
    "blocks": {"wq": (L, D, N, H), "bq": (L, N, H), "wo": (L, N, H, D), "w_in": (L, D, F)},
}


def constant(rate):
    return schedules.Constant(peak=rate, warmup="0")


def make_optimizers(decay=0.0, clip=0.0):
    shared = {"weight_decay": decay, "clip_norm": clip}
    moments = {"b1": 0.9, "b2": 0.99, "epsilon": 1e-6}
    factored = {"decay_rate": 0.8, "epsilon": 1e-30, "update_clip": 1.0, "factor_from": 5}
    return {
        "adamw": optimizers.AdamW(schedule=constant(0.03), **shared, **moments),
        "bert_adam": optimizers.BertAdam(schedule=constant(0.03), **shared, **moments),
        "lamb": optimizers.Lamb(schedule=constant(0.03), **shared, **moments),
        "adafactor": optimizers.Adafactor(
            schedule=constant(0.03), **shared, **factored, parameter_floor=1e-3, momentum=0.5
        ),
        "adafactor-plain": optimizers.Adafactor(
            schedule=constant(0.03),
            **shared,
            **{**factored, "update_clip": 0.0},
            parameter_floor=0.0,
            momentum=0.0,
        ),
        "sgd": optimizers.Sgd(schedule=constant(0.1), **shared, momentum=0.7),
        "lion": optimizers.Lion(schedule=constant(0.02), **shared, b1=0.9, b2=0.99),
        "muon": optimizers.Muon(
            schedule=constant(0.2),
            rest_schedule=constant(0.02),
            **shared,
            **moments,
            momentum=0.9,
            iterations=5,
            update_rms=0.2,
        ),
    }


NAMES = list(make_optimizers())


def random_tree(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    leaf = lambda shape: jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
    return jax.tree.map(leaf, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def run(config, axes, params, gradients):
    """Parameters after one update per gradient."""
    optimizer = config.make(HORIZON, axes)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for grads in gradients:
        updates, state = update(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params, state


def unstacked(tree):
    """Every layer of a stacked array as an array of its own."""
    layers = [jax.tree.map(lambda x, i=i: x[i], tree["blocks"]) for i in range(L)]
    return {**tree, "blocks": {str(i): layer for i, layer in enumerate(layers)}}


def unstacked_axes():
    layer = {name: axes[1:] for name, axes in AXES["blocks"].items()}
    return {**AXES, "blocks": {str(i): layer for i in range(L)}}


@pytest.mark.parametrize("name", NAMES)
def test_descends_a_quadratic_under_jit(name):
    optimizer = make_optimizers()[name].make(HORIZON, AXES)
    target, params = random_tree(1), random_tree(2)
    loss = lambda p: sum(
        jnp.sum((a - b) ** 2) for a, b in zip(*map(jax.tree.leaves, (p, target)), strict=True)
    )

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return jax.tree.map(jnp.add, params, updates), state

    before, state = loss(params), optimizer.init(params)
    structure = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    for _ in range(60):
        params, state = step(params, state)
    assert loss(params) < 0.5 * before
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == structure
    assert {x.dtype for x in jax.tree.leaves(state)} <= {jnp.dtype("float32"), jnp.dtype("int32")}


@pytest.mark.parametrize("name", NAMES)
def test_decay_shrinks_matrices_and_nothing_else(name):
    params, grads = random_tree(3), [random_tree(4)]
    without, _ = run(make_optimizers(decay=0.0)[name], AXES, params, grads)
    with_decay, _ = run(make_optimizers(decay=0.1)[name], AXES, params, grads)
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), without, with_decay)
    assert changed == {
        "table": True,
        "norm": False,
        "blocks": {"wq": True, "bq": False, "wo": True, "w_in": True},
    }


@pytest.mark.parametrize("name", NAMES)
def test_stacked_layers_are_updated_as_separate_layers(name):
    config = make_optimizers(decay=0.1, clip=0.5)[name]
    # Layers of very different size: a norm over the whole stack would show.
    scale = jnp.asarray([0.01, 1.0, 30.0])
    grow = lambda tree: {
        **tree,
        "blocks": jax.tree.map(lambda x: x * scale.reshape(-1, *[1] * (x.ndim - 1)), tree["blocks"]),
    }
    params, grads = grow(random_tree(5)), [grow(random_tree(seed)) for seed in (6, 7, 8)]
    stacked, _ = run(config, AXES, params, grads)
    separate, _ = run(config, unstacked_axes(), unstacked(params), [unstacked(g) for g in grads])
    for a, b in zip(jax.tree.leaves(unstacked(stacked)), jax.tree.leaves(separate), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6 * float(jnp.max(jnp.abs(b))))


@pytest.mark.parametrize("name", NAMES)
def test_clipping_scales_all_gradients_by_the_global_norm(name):
    params, grads = random_tree(9), random_tree(10)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in jax.tree.leaves(grads)))
    half = jax.tree.map(lambda g: g / 2, grads)
    clipped, state = run(make_optimizers(clip=float(norm / 2))[name], AXES, params, [grads])
    scaled, _ = run(make_optimizers(clip=0.0)[name], AXES, params, [half])
    for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(scaled), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(transforms.measures(state)["grad_norm"], norm, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_measures_are_those_of_the_last_update(name):
    config = dataclasses.replace(
        make_optimizers()[name], schedule=schedules.WarmupLinear(peak=0.5, warmup="10", end=0.0)
    )
    params = random_tree(11)
    _, state = run(config, AXES, params, [random_tree(12)] * 4)
    np.testing.assert_allclose(transforms.measures(state)["learning_rate"], 0.5 * 3 / 10, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_moments_have_the_rank_of_their_parameter(name):
    """What partition.state relies on to give a moment its parameter's sharding."""
    optimizer = make_optimizers()[name].make(HORIZON, AXES)
    state = jax.eval_shape(optimizer.init, random_tree(0))
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.shape
        for path, x in jax.tree_util.tree_flatten_with_path(state)[0]
    }
    for path, shape in jax.tree_util.tree_flatten_with_path(SHAPES, is_leaf=lambda x: isinstance(x, tuple))[
        0
    ]:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        own = [s for key, s in shapes.items() if key.endswith("/" + name)]
        assert own, name
        assert all(
            len(s) == len(shape) and all(n in (1, m) for n, m in zip(s, shape, strict=True)) for s in own
        )


MOMENTS = {
    "schedule": constant(1e-3),
    "weight_decay": 0.1,
    "clip_norm": 1.0,
    "b1": 0.9,
    "b2": 0.99,
    "epsilon": 1e-8,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b1": 1.0}, r"o\.b1=1\.0: .*below 1"),
        ({"b2": -0.1}, r"o\.b2=-0\.1"),
        ({"epsilon": 0.0}, r"o\.epsilon=0\.0: .*above 0"),
        ({"weight_decay": -0.1}, r"o\.weight_decay=-0\.1"),
        ({"clip_norm": float("nan")}, r"o\.clip_norm=nan"),
        ({"schedule": schedules.Constant(peak=-1.0, warmup="0")}, r"o\.schedule\.peak=-1\.0"),
        ({"schedule": schedules.Constant(peak=1.0, warmup="200%")}, r"o\.schedule\.warmup='200%'"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        optimizers.AdamW(**{**MOMENTS, **change}).make(HORIZON, AXES, "o")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("adafactor", {"decay_rate": -1.0}),
        ("adafactor", {"epsilon": 0.0}),
        ("adafactor", {"factor_from": 0}),
        ("adafactor", {"momentum": 1.0}),
        ("sgd", {"momentum": 1.5}),
        ("lion", {"b2": 2.0}),
        ("muon", {"iterations": 0}),
        ("muon", {"update_rms": -1.0}),
        ("muon", {"rest_schedule": constant(-1.0)}),
    ],
)
def test_own_settings_are_checked(name, change):
    config = dataclasses.replace(make_optimizers()[name], **change)
    with pytest.raises(UserError, match=rf"o\.{next(iter(change))}"):
        config.validate("o")


def test_nothing_that_changes_results_has_a_default():
    for config in make_optimizers().values():
        for field in dataclasses.fields(config):
            assert field.default is dataclasses.MISSING, field.name
