"""Claims: AdamW, Sgd and clipping give what torch.optim gives; Adafactor gives what optax gives for plain matrices, and
what transformers gives for every matrix and vector of T5."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.config import flags
from jaxlm.models import build
from jaxlm.optim import matrices, optimizers, schedules
from jaxlm.optim.horizon import Horizon

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
HORIZON = Horizon(((40, 8),))
AXES = {"w": ("embed", "mlp"), "b": ("mlp",)}
SHAPES = {"w": (5, 7), "b": (7,)}
STEPS = 12
RTOL, ATOL = 2e-5, 2e-7


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}


def ours(config, axes=AXES):
    optimizer = config.make(HORIZON, axes)
    params = jax.tree.map(jnp.asarray, arrays(0))
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(STEPS):
        updates, state = update(arrays(step + 1), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def theirs(make, rate, *, clip):
    torch = pytest.importorskip("torch")
    params = {name: torch.nn.Parameter(torch.tensor(x, dtype=torch.float64)) for name, x in arrays(0).items()}
    optimizer = make(torch.optim, params)
    for step in range(STEPS):
        for name, gradient in arrays(step + 1).items():
            params[name].grad = torch.tensor(gradient, dtype=torch.float64)
        if clip:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.step()
    return {name: p.detach().numpy() for name, p in params.items()}


def groups(params, decay):
    return [{"params": [params["w"]], "weight_decay": decay}, {"params": [params["b"]], "weight_decay": 0.0}]


def ramp(step):
    return 0.02 * min(step / 5, 1.0)


SCHEDULE = schedules.Constant(peak=0.02, warmup="5")


def test_adamw_equals_torch():
    config = optimizers.AdamW(
        schedule=SCHEDULE, weight_decay=0.1, clip_norm=1.0, b1=0.8, b2=0.95, epsilon=1e-6
    )
    make = lambda optim, p: optim.AdamW(groups(p, 0.1), lr=1.0, betas=(0.8, 0.95), eps=1e-6)
    expected = theirs(make, ramp, clip=1.0)
    for name, value in ours(config).items():
        np.testing.assert_allclose(value, expected[name], rtol=RTOL, atol=ATOL)


def test_sgd_equals_torch():
    config = optimizers.Sgd(schedule=SCHEDULE, weight_decay=0.1, clip_norm=0.0, momentum=0.9)
    make = lambda optim, p: optim.SGD(groups(p, 0.1), lr=1.0, momentum=0.9)
    expected = theirs(make, ramp, clip=0.0)
    for name, value in ours(config).items():
        np.testing.assert_allclose(value, expected[name], rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize(("momentum", "factor_from"), [(0.0, 2), (0.6, 2), (0.0, 6)])
def test_adafactor_equals_optax_for_a_matrix(momentum, factor_from):
    config = optimizers.Adafactor(
        schedule=schedules.Constant(peak=0.02, warmup="0"),
        weight_decay=0.0,
        clip_norm=0.0,
        decay_rate=0.8,
        epsilon=1e-30,
        update_clip=1.0,
        parameter_floor=1e-3,
        momentum=momentum,
        factor_from=factor_from,
    )
    reference = optax.adafactor(
        0.02, min_dim_size_to_factor=factor_from, momentum=momentum or None, multiply_by_parameter_scale=True
    )
    params = jax.tree.map(jnp.asarray, arrays(0))
    state = reference.init(params)
    for step in range(STEPS):
        updates, state = reference.update(jax.tree.map(jnp.asarray, arrays(step + 1)), state, params)
        params = optax.apply_updates(params, updates)
    for name, value in ours(config).items():
        np.testing.assert_allclose(value, params[name], rtol=RTOL, atol=ATOL)


def apart(array, axes):
    """The matrices and vectors of one parameter, by what the T5 paper calls one: layers apart, heads and head_dim one."""
    array = np.asarray(array)
    layers = list(array) if axes[0] == "layers" else [array]
    names = axes[1:] if axes[0] == "layers" else axes
    if "head_dim" not in names:
        return layers
    rows = -1 if names[0] == "heads" else layers[0].shape[0]
    return [x.reshape(rows, x.shape[-1] if rows == -1 else -1) for x in layers]


def test_adafactor_trains_every_matrix_of_t5_as_transformers_does():
    torch, peer = pytest.importorskip("torch"), pytest.importorskip("transformers.optimization")
    config = dataclasses.replace(
        flags.load(str(CONFIGS / "t5_base.py")).model,
        **dict(vocab_size=101, hidden=24, encoder_layers=2, decoder_layers=2, heads=4, head_dim=6, mlp=40),
    )
    model = build.build(config)
    adafactor = optimizers.Adafactor(
        schedule=schedules.Constant(peak=0.1, warmup="0"),
        weight_decay=0.0,
        clip_norm=0.0,
        decay_rate=0.8,
        epsilon=1e-30,
        update_clip=1.0,
        parameter_floor=1e-3,
        momentum=0.0,
        factor_from=1,
    ).make(HORIZON, model.axes)
    rng = np.random.default_rng(0)
    # Rows of very different sizes: taken row by row, clipping and steps would be others.
    sizes = lambda shape: np.exp(rng.normal(size=shape[:1] + (1,) * (len(shape) - 1)))
    drawn = lambda x: (rng.normal(size=x.shape) * sizes(x.shape)).astype(np.float32)
    draw = lambda: jax.tree.map(drawn, model.shapes)
    split = lambda tree: [
        part
        for x, axes in zip(
            jax.tree.leaves(tree), jax.tree.leaves(model.axes, is_leaf=matrices.is_axes), strict=True
        )
        for part in apart(x, axes)
    ]
    params = draw()
    theirs = [torch.nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in split(params)]
    reference = peer.Adafactor(theirs, lr=0.1, relative_step=False, scale_parameter=True)
    state, update = adafactor.init(params), jax.jit(adafactor.update)
    for _ in range(3):
        gradients = draw()
        updates, state = update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        for p, gradient in zip(theirs, split(gradients), strict=True):
            p.grad = torch.tensor(gradient, dtype=torch.float64)
        reference.step()
    for ours, right in zip(split(params), theirs, strict=True):
        np.testing.assert_allclose(ours, right.detach().numpy(), rtol=RTOL, atol=1e-6)
