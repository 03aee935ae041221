"""Claims: rates by layer, by name and by time are those of a torch optimizer with a group for every layer; weights that
stay near their start follow the equation; what does not fit is refused."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxlm
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.optim import around, optimizers, schedules
from jaxlm.optim.around import GradualUnfreezing, LayerDecay, RateGroups, TowardsStart
from jaxlm.optim.horizon import Horizon
from jaxlm.optim.narrow import NarrowMoments

HORIZON, STEPS, RATE, DECAY = Horizon(((40, 8),)), 6, 0.02, 0.1
AXES = {
    "blocks": {"w": ("layers", "embed", "mlp"), "b": ("layers", "mlp")},
    "embeddings": {"tokens": {"table": ("vocab", "embed")}},
    "heads": {"classes": {"w": ("embed", None)}},
    "norm": {"scale": ("embed",)},
}
SHAPES = {
    "blocks": {"w": (3, 5, 7), "b": (3, 7)},
    "embeddings": {"tokens": {"table": (9, 5)}},
    "heads": {"classes": {"w": (5, 2)}},
    "norm": {"scale": (5,)},
}
ADAM = optimizers.AdamW(
    schedule=schedules.Constant(peak=RATE, warmup="0"),
    weight_decay=DECAY,
    clip_norm=0.0,
    b1=0.8,
    b2=0.95,
    epsilon=1e-6,
)
PLAIN = dataclasses.replace(ADAM, weight_decay=0.0)
RTOL, ATOL = 2e-5, 2e-7


def arrays(seed):
    rng = np.random.default_rng(seed)
    is_shape = lambda node: isinstance(node, tuple)
    return jax.tree.map(lambda s: rng.normal(size=s).astype(np.float32), SHAPES, is_leaf=is_shape)


def ours(config, steps=STEPS):
    optimizer = config.make(HORIZON, AXES)
    params = jax.tree.map(jnp.asarray, arrays(0))
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(steps):
        updates, state = update(arrays(step + 1), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def pieces(tree):
    """{(path, layer or -1): array}: what torch has as parameters of their own."""
    found = {}
    for keys, array in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        layered = path.startswith("blocks")
        found |= {(path, i): array[i] for i in range(len(array))} if layered else {(path, -1): array}
    return found


def theirs(rate):
    """torch's AdamW after STEPS steps, `rate(path, layer, step)` being the rate of each piece."""
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    params = {
        k: torch.nn.Parameter(torch.tensor(x, dtype=torch.float64)) for k, x in pieces(arrays(0)).items()
    }
    groups = [{"params": [p], "weight_decay": DECAY * (p.ndim > 1), "key": k} for k, p in params.items()]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.95), eps=1e-6)
    for step in range(STEPS):
        for key, gradient in pieces(arrays(step + 1)).items():
            params[key].grad = torch.tensor(gradient, dtype=torch.float64)
        for group in optimizer.param_groups:
            group["lr"] = rate(*group["key"], step)
        optimizer.step()
    return {key: p.detach().numpy() for key, p in params.items()}


def check(config, rate):
    found, expected = pieces(ours(config)), theirs(rate)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], rtol=RTOL, atol=ATOL, err_msg=str(key))


def depth(path, layer):
    return {"heads": 0, "norm": 1, "blocks": 3 - layer, "embeddings": 4}[path.split("/")[0]]


@pytest.mark.parametrize("first", [1, 2])
def test_layer_decay_is_a_group_for_every_layer(first):
    def rate(path, layer, step):
        below = depth(path, layer)
        return RATE * 0.7 ** (below + first - 1 if below else 0)

    check(LayerDecay(of=ADAM, decay=0.7, first=first), rate)


def test_rates_by_name_multiply_with_those_by_depth():
    config = RateGroups(of=LayerDecay(of=ADAM, decay=0.5, first=1), rates=(("heads/", 10.0), (".*/b$", 0.0)))

    def rate(path, layer, step):
        return (
            RATE
            * 0.5 ** depth(path, layer)
            * (10.0 if "heads" in path else 0.0 if path.endswith("/b") else 1.0)
        )

    check(config, rate)


def test_unfreezing_is_a_rate_of_zero_until_then_and_changes_nothing_at_all():
    config = GradualUnfreezing(of=ADAM, every="2 steps")
    check(config, lambda path, layer, step: RATE * (step >= 2 * depth(path, layer)))
    before, after = pieces(jax.tree.map(jnp.asarray, arrays(0))), pieces(ours(config, steps=4))
    for (path, layer), value in after.items():
        same = np.array_equal(value, before[path, layer])
        assert same == (depth(path, layer) >= 2), (path, layer)


def test_weights_are_pulled_to_where_they_began_and_heads_to_zero():
    """Sgd without momentum, in float64 by hand."""
    sgd = optimizers.Sgd(schedule=ADAM.schedule, weight_decay=0.0, clip_norm=0.0, momentum=0.0)
    found = pieces(ours(TowardsStart(of=sgd, pull=3.0, head_decay=0.5)))
    for key, start in pieces(arrays(0)).items():
        w = start = start.astype(np.float64)
        for step in range(STEPS):
            pull = 0.5 * w if "heads" in key[0] else 3.0 * (w - start)
            w = w - RATE * (pieces(arrays(step + 1))[key] + pull)
        np.testing.assert_allclose(found[key], w, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("bert_tiny", {"embeddings/norm/scale": 3, "heads/pooler/w": 0, "blocks/mlp/w_in": [2, 1]}),
        (
            "modernbert_base",
            {"tokens/table": 23, "norm/scale": 1, "first/mlp/w_in": [22], "norm_tokens/scale": 23},
        ),
        ("t5_small", {"tokens/table": 7, "encoder/norm/scale": 1, "decoder/relative_bias/table": 7}),
        ("albert_base", {"embeddings/tokens/table": 2, "project/w": 2, "block/mlp/w_in": 1}),
        ("llama_7b", {"tokens/table": 33, "decoder/table": 0, "norm/scale": 1}),
    ],
)
def test_every_family_has_its_depths(recipe, expected):
    run = jaxlm.load_recipe(recipe)
    model = build(run.model, run.heads)
    flat = [(path, shape.shape) for path, shape in pieces_of(model.shapes)]
    found = dict(
        zip([path for path, _ in flat], around.depths(model.axes, [s for _, s in flat]), strict=True)
    )
    assert {path: found[path].tolist() for path in expected} == expected
    stacks = [value for path, value in found.items() if "blocks/" in path]
    assert all(value[-1] == 1 for value in stacks)


def pieces_of(tree):
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(keys, simple=True, separator="/"), leaf) for keys, leaf in leaves]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LayerDecay(of=ADAM, decay=1.5, first=1), "decay=1.5: must be"),
        (RateGroups(of=ADAM, rates=(("head/", 2.0),)), "'head/' matches no parameter. Paths: blocks/b"),
        (RateGroups(of=ADAM, rates=(("(", 2.0),)), "is not a regular expression"),
        (GradualUnfreezing(of=ADAM, every="an epoch"), "not a duration"),
        (TowardsStart(of=ADAM, pull=0.01, head_decay=0.0), "weight_decay=0.0 inside"),
    ],
)
def test_what_cannot_work_is_refused(config, message):
    with pytest.raises(UserError, match=re.escape(message)):
        config.make(HORIZON, AXES)


def test_narrow_moments_follow_the_equation_and_round_what_is_kept():
    """float64 but for the first moment, which ml_dtypes rounds between updates."""
    rng = np.random.default_rng(0)
    config = NarrowMoments(of=dataclasses.replace(ADAM, weight_decay=0.0), dtype="bfloat16")
    axes, w = {"w": ("embed", "mlp")}, rng.normal(size=(5, 7))
    link = config.make(HORIZON, axes)
    params = {"w": jnp.asarray(w, jnp.float32)}
    state = link.init(params)
    m, v = np.zeros(w.shape), np.zeros(w.shape)
    for step in range(1, STEPS + 1):
        g = rng.normal(size=w.shape).astype(np.float32)
        updates, state = link.update({"w": jnp.asarray(g)}, state, params)
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * np.square(g, dtype=np.float64)
        expected = -RATE * (m / (1 - 0.8**step)) / (np.sqrt(v / (1 - 0.95**step)) + 1e-6)
        # A moment near the middle between two numbers of 8 bits may be rounded to the other one in float32.
        close = np.isclose(updates["w"], expected, rtol=1e-5, atol=1e-8)
        assert close.mean() > 0.95
        np.testing.assert_allclose(updates["w"], expected, atol=RATE * 2**-8)
        m = m.astype(jnp.bfloat16).astype(np.float64)
    kept = {str(x.dtype) for path, x in jax.tree_util.tree_leaves_with_path(state) if "mu" in str(path)}
    others = {str(x.dtype) for path, x in jax.tree_util.tree_leaves_with_path(state) if "nu" in str(path)}
    assert kept == {"bfloat16"} and others == {"float32"}


def test_an_optimizer_without_first_moments_is_refused():
    sgd = optimizers.Sgd(schedule=ADAM.schedule, weight_decay=0.0, clip_norm=0.0, momentum=0.9)
    link = NarrowMoments(of=sgd, dtype="bfloat16").make(HORIZON, {"w": ("embed",)})
    with pytest.raises(UserError, match=r"config.optimizer.of: Sgd has no first moments"):
        link.init({"w": jnp.zeros(3)})
