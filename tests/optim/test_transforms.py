"""Claims: BertAdam, LAMB, Lion and Muon are their published formulas (float64, layer by layer)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.optim import optimizers, schedules, transforms
from jaxlm.optim.horizon import Horizon

RATE, DECAY, B1, B2, EPSILON = 0.02, 0.1, 0.8, 0.95, 1e-6
L, D, N, H = 3, 6, 2, 5
STEPS = 7
AXES = {"w": ("layers", "embed", "heads", "head_dim"), "b": ("layers", "heads", "head_dim")}
SHARED = {"schedule": schedules.Constant(peak=RATE, warmup="0"), "weight_decay": DECAY, "clip_norm": 0.0}
MOMENTS = {"b1": B1, "b2": B2, "epsilon": EPSILON}
RTOL, ATOL = 3e-5, 3e-7


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(L, D, N, H)), "b": rng.normal(size=(L, N, H))}


def ours(config, stack="layers"):
    axes = {name: (stack, *own[1:]) for name, own in AXES.items()}
    optimizer = config.make(Horizon(((STEPS, 1),)), axes)
    cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)
    params = cast(arrays(0))
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(STEPS):
        updates, state = update(cast(arrays(step + 1)), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def published(update):
    """Runs `update(p, g, memory, t, decay) -> direction` on every layer of every array by itself, in float64."""
    result = arrays(0)
    for name, stack in result.items():
        for layer in range(L):
            p, memory = stack[layer], {}
            for step in range(STEPS):
                g = arrays(step + 1)[name][layer]
                p = p - RATE * update(p, g, memory, step + 1, DECAY if name == "w" else 0.0)
            stack[layer] = p
    return result


def average(memory, key, value, decay):
    memory[key] = decay * memory.get(key, 0.0) + (1 - decay) * value
    return memory[key]


def bert_adam(p, g, memory, t, decay):
    m, v = average(memory, "m", g, B1), average(memory, "v", g * g, B2)
    return m / (np.sqrt(v) + EPSILON) + decay * p


def adamw(p, g, memory, t, decay):
    m, v = average(memory, "m", g, B1) / (1 - B1**t), average(memory, "v", g * g, B2) / (1 - B2**t)
    return m / (np.sqrt(v) + EPSILON) + decay * p


def lamb(p, g, memory, t, decay):
    u = adamw(p, g, memory, t, decay)
    return u * np.linalg.norm(p) / np.linalg.norm(u) if decay else u


def lion(p, g, memory, t, decay):
    m = memory.get("m", 0.0)
    memory["m"] = B2 * m + (1 - B2) * g
    return np.sign(B1 * m + (1 - B1) * g) + decay * p


def muon(p, g, memory, t, decay, update_rms):
    if not decay:
        return adamw(p, g, memory, t, decay)
    beta = 0.9
    m = average(memory, "m", g, beta)
    x = beta * m / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
    x = x.reshape(D, N * H)
    rows, cols = x.shape
    x = x / np.linalg.norm(x)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    scale = update_rms * np.sqrt(max(rows, cols)) if update_rms else np.sqrt(max(1, cols / rows))
    return scale * x.reshape(D, N, H) + decay * p


def make_muon(update_rms):
    rest = schedules.Constant(peak=RATE, warmup="0")
    return optimizers.Muon(
        **SHARED, **MOMENTS, momentum=0.9, iterations=5, update_rms=update_rms, rest_schedule=rest
    )


CASES = {
    "bert_adam": (optimizers.BertAdam(**SHARED, **MOMENTS), bert_adam),
    "adamw": (optimizers.AdamW(**SHARED, **MOMENTS), adamw),
    "lamb": (optimizers.Lamb(**SHARED, **MOMENTS), lamb),
    "lion": (optimizers.Lion(**SHARED, b1=B1, b2=B2), lion),
    "muon-width": (make_muon(0.0), lambda *a: muon(*a, update_rms=0.0)),
    "muon-rms": (make_muon(0.2), lambda *a: muon(*a, update_rms=0.2)),
}


@pytest.mark.parametrize("name", CASES)
def test_optimizer_is_its_published_formula(name):
    config, formula = CASES[name]
    expected = published(formula)
    for key, value in ours(config).items():
        # Newton-Schulz amplifies rounding errors: its largest singular values are fed through x^5 five times.
        tolerance = 10 if name.startswith("muon") else 1
        np.testing.assert_allclose(value, expected[key], rtol=RTOL * tolerance, atol=ATOL * tolerance)


def test_rest_of_muon_follows_its_own_schedule():
    config = dataclasses.replace(make_muon(0.2), rest_schedule=schedules.Constant(peak=1e-9, warmup="0"))
    moved = jax.tree.map(lambda x, y: float(jnp.max(jnp.abs(x - y))), ours(config), arrays(0))
    assert moved["b"] < 1e-6 < 1e-3 < moved["w"]


def test_gradients_below_the_norm_are_not_touched():
    clip = transforms.clip(10.0)
    grads = {"w": jnp.asarray([3.0, 4.0])}
    updates, state = clip.update(grads, clip.init(grads))
    np.testing.assert_array_equal(updates["w"], grads["w"])
    assert state.grad_norm == 5.0


def test_gradient_of_zero_is_not_divided_by_its_norm():
    clip = transforms.clip(1.0)
    grads = {"w": jnp.zeros(3)}
    np.testing.assert_array_equal(clip.update(grads, clip.init(grads))[0]["w"], 0.0)


def test_trust_ratio_of_zero_weights_or_updates_is_one():
    layouts = {"w": optimizers.matrices.layout(("layers", "embed", "mlp"))}
    ratio = transforms.scale_by_trust_ratio(layouts)
    p = {"w": jnp.stack([jnp.zeros((2, 3)), jnp.ones((2, 3)), 2 * jnp.ones((2, 3))])}
    u = {"w": jnp.stack([jnp.ones((2, 3)), jnp.zeros((2, 3)), jnp.ones((2, 3))])}
    out, _ = ratio.update(u, ratio.init(p), p)
    np.testing.assert_allclose(out["w"][:, 0, 0], [1.0, 0.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("name", ["lamb", "muon-rms"])
def test_every_expert_is_a_matrix_of_its_own(name):
    config, update = CASES[name]
    np.testing.assert_allclose(ours(config, "experts")["w"], published(update)["w"], rtol=RTOL, atol=ATOL)
