"""Claims about attention: the reference against numpy, kernels against the reference, the capability table."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxlm.errors import UserError
from jaxlm.models import kernels, masks, splash
from jaxlm.models.attention import attention, xla_attention

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def inputs(batch=2, length=7, keys=7, heads=6, kv_heads=2, width=5, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return (
        draw(batch, length, heads, width),
        draw(batch, keys, kv_heads, width),
        draw(batch, keys, kv_heads, width),
    )


def by_hand(q_BTNH, k_BSKH, v_BSKH, allowed_BTS):
    """One query at a time, in float64."""
    q_BTNH, k_BSKH, v_BSKH = (np.asarray(x, np.float64) for x in (q_BTNH, k_BSKH, v_BSKH))
    out = np.zeros_like(q_BTNH)
    share = q_BTNH.shape[2] // k_BSKH.shape[2]
    for b, t, n in np.ndindex(q_BTNH.shape[:3]):
        scores = k_BSKH[b, :, n // share] @ q_BTNH[b, t, n] / np.sqrt(q_BTNH.shape[-1])
        weights = np.where(allowed_BTS[b, t], np.exp(scores - scores.max()), 0)
        out[b, t, n] = weights / weights.sum() @ v_BSKH[b, :, n // share]
    return out


SEGMENTS = np.array([[1, 1, 1, 2, 2, 0, 0], [1, 2, 2, 2, 2, 2, 3]], np.int32)


@pytest.mark.parametrize(
    ("causal", "window"), [(False, None), (True, None), (False, (1, 2)), (True, (2, 0)), (False, (0, 0))]
)
def test_the_reference_equals_a_loop_over_queries(causal, window):
    mask = masks.within_segments(jnp.asarray(SEGMENTS), causal=causal, window=window)
    allowed = np.zeros((2, 7, 7), bool)
    for b, t, s in np.ndindex(2, 7, 7):
        near = window is None or -window[0] <= s - t <= window[1]
        allowed[b, t, s] = SEGMENTS[b, t] == SEGMENTS[b, s] and near and (s <= t or not causal)
    np.testing.assert_array_equal(masks.materialise(mask).allowed_BTS, allowed)
    q, k, v = inputs()
    np.testing.assert_allclose(attention(q, k, v, mask), by_hand(q, k, v, allowed), atol=1e-5)


LONG = [(True, None), (True, (40, 0)), (False, (64, 64)), (False, (130, 20))]


@pytest.mark.parametrize(("causal", "window"), LONG)
def test_a_long_row_is_computed_part_by_part_with_the_keys_that_a_part_can_see(causal, window):
    rng = np.random.default_rng(3)
    segments_BT = jnp.asarray(np.sort(rng.integers(1, 5, (2, 300)), axis=1), jnp.int32)
    mask = masks.within_segments(segments_BT, causal=causal, window=window)
    q, k, v = inputs(length=300, keys=300)
    bias = jnp.asarray(rng.normal(size=(6, 300, 300)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=q.shape), jnp.float32)
    places = jnp.arange(300)[None].repeat(2, 0)
    whole = dataclasses.replace(
        mask, positions_BT=places, positions_BS=places
    )  # named, so any key may be near
    assert masks.reach(whole, slice(0, 128)) is None

    def of(mask):
        total = lambda q, k, v, bias: jnp.sum(attention(q, k, v, mask, bias_NTS=bias) * weights)
        return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3))).lower(q, k, v, bias).compile()

    parts, all_keys = of(mask), of(whole)
    found, expected = parts(q, k, v, bias), all_keys(q, k, v, bias)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
    flops = [program.cost_analysis()["flops"] for program in (parts, all_keys)]
    assert flops[0] < 0.9 * flops[1]


@pytest.mark.parametrize("cache", [1, 2 * 3 * 7 * 11], ids=["a head at a time", "two heads"])
@pytest.mark.parametrize("bias", [None, (12, 7, 11), (3, 12, 7, 11)], ids=["no bias", "shared", "of rows"])
def test_rows_whose_scores_fill_the_cache_are_computed_one_by_one(monkeypatch, cache, bias):
    rng = np.random.default_rng(5)
    q, k, v = inputs(batch=3, keys=11, heads=12, kv_heads=4)  # 3 query heads of each of 4
    mask = masks.between_segments(*(jnp.asarray(rng.integers(1, 3, (3, n)), jnp.int32) for n in (7, 11)))
    extra = None if bias is None else jnp.asarray(rng.normal(size=bias), jnp.float32)
    weights = jnp.asarray(rng.normal(size=q.shape), jnp.float32)

    def of():
        total = lambda q, k, v, extra: jnp.sum(attention(q, k, v, mask, bias_NTS=extra) * weights)
        run = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2) if bias is None else (0, 1, 2, 3)))
        return run(q, k, v, extra), "while" in run.lower(q, k, v, extra).as_text()

    whole, looped = of()
    assert not looped
    monkeypatch.setattr(kernels, "_SCORES_AT_ONCE", 0)
    monkeypatch.setattr(kernels, "_SCORES_IN_CACHE", cache)
    assert kernels.heads_together(3, 4, 21, 11) == (1 if cache == 1 else 2)
    found, looped = of()
    assert looped
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    if bias is None:
        allowed = np.asarray(masks.materialise(mask).allowed_BTS)
        np.testing.assert_allclose(attention(q, k, v, mask), by_hand(q, k, v, allowed), atol=1e-5)


@pytest.mark.parametrize(("causal", "window"), LONG)
def test_no_query_sees_a_key_beyond_its_reach(causal, window):
    segments = jnp.ones((1, 300), jnp.int32)
    mask = masks.within_segments(segments, causal=causal, window=window)
    allowed_BTS = np.asarray(masks.materialise(mask).allowed_BTS)
    for part in (slice(0, 128), slice(128, 256), slice(256, 300)):
        keys = masks.reach(mask, part)
        inside = np.zeros(300, bool)
        inside[keys] = True
        seen = allowed_BTS[0, part].any(axis=0)
        assert not seen[~inside].any()
        assert seen[keys.start] and seen[keys.stop - 1]  # and no key too many


@pytest.mark.parametrize(
    "change", [{"prefix_BS": jnp.ones((1, 9))}, {"causal": False}, {"segments_BS": jnp.ones((1, 8))}]
)
def test_where_any_key_may_be_seen_there_is_no_reach(change):
    mask = dataclasses.replace(masks.within_segments(jnp.ones((1, 9), jnp.int32), causal=True), **change)
    assert masks.reach(mask, slice(0, 9)) is None


def test_a_prefix_is_seen_from_everywhere_in_its_segment():
    prefix = np.array([[1, 1, 0, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0, 1]], np.int32)
    mask = masks.within_segments(jnp.asarray(SEGMENTS), causal=True, prefix_BT=jnp.asarray(prefix))
    allowed = np.zeros((2, 7, 7), bool)
    for b, t, s in np.ndindex(2, 7, 7):
        allowed[b, t, s] = SEGMENTS[b, t] == SEGMENTS[b, s] and (s <= t or prefix[b, s] == 1)
    np.testing.assert_array_equal(masks.materialise(mask).allowed_BTS, allowed)


def test_a_segment_of_the_target_sees_the_source_segment_of_its_number():
    source = np.array([[1, 2, 2, 2, 0], [3, 1, 1, 2, 2]], np.int32)
    mask = masks.between_segments(jnp.asarray(SEGMENTS), jnp.asarray(source))
    allowed = SEGMENTS[:, :, None] == source[:, None, :]
    q, k, v = inputs(keys=5)
    rows_with_a_key = allowed.any(-1)
    found, expected = attention(q, k, v, mask), by_hand(q, k, v, allowed | ~rows_with_a_key[..., None])
    np.testing.assert_allclose(found[rows_with_a_key], expected[rows_with_a_key], atol=1e-5)


def test_scale_and_bias_enter_the_scores():
    q, k, v = inputs()
    mask = masks.within_segments(jnp.ones((2, 7), jnp.int32))
    bias = jnp.asarray(np.random.default_rng(3).normal(size=(6, 7, 7)), jnp.float32)
    out = np.zeros(q.shape)
    for b, t, n in np.ndindex(2, 7, 6):
        scores = np.asarray(k, np.float64)[b, :, n // 3] @ np.asarray(q, np.float64)[b, t, n] * 0.3
        weights = np.exp(scores + np.asarray(bias, np.float64)[n, t])
        out[b, t, n] = weights / weights.sum() @ np.asarray(v, np.float64)[b, :, n // 3]
    np.testing.assert_allclose(attention(q, k, v, mask, scale=0.3, bias_NTS=bias), out, atol=1e-5)
    np.testing.assert_allclose(
        attention(q, k, v, mask, scale=0.3, bias_NTS=bias[None].repeat(2, 0)), out, atol=1e-5
    )


def test_positions_replace_places_in_the_row():
    """A row that is stored backwards, with its positions, gives the same, backwards."""
    q, k, v = inputs()
    places = jnp.tile(jnp.arange(7), (2, 1))
    forward = masks.Mask(segments_BT=SEGMENTS, segments_BS=SEGMENTS, causal=True, window=(2, 0))
    back = SEGMENTS[:, ::-1]
    positions = places[:, ::-1]
    backward = masks.Mask(
        segments_BT=back,
        segments_BS=back,
        positions_BT=positions,
        positions_BS=positions,
        causal=True,
        window=(2, 0),
    )
    flipped = attention(q[:, ::-1], k[:, ::-1], v[:, ::-1], backward)
    np.testing.assert_allclose(attention(q, k, v, forward), flipped[:, ::-1], atol=1e-6)


def test_a_query_without_any_key_gives_numbers_not_nan():
    q, k, v = inputs()
    mask = masks.Mask(segments_BT=jnp.full((2, 7), 9), segments_BS=jnp.asarray(SEGMENTS))
    value, grads = jax.value_and_grad(lambda q: attention(q, k, v, mask).sum())(q)
    assert np.isfinite(value) and np.isfinite(grads).all()


def test_dropout_keeps_the_expectation_and_needs_a_key():
    q, k, v = inputs()
    mask = masks.within_segments(jnp.asarray(SEGMENTS))
    plain = attention(q, k, v, mask)
    np.testing.assert_array_equal(attention(q, k, v, mask, dropout_rate=0.3), plain)
    draw = jit(jax.vmap(lambda key: attention(q, k, v, mask, dropout_rate=0.3, key=key)))
    drawn = draw(jax.random.split(jax.random.key(0), 4000))
    error = np.abs(drawn.mean(0) - plain)
    assert not np.array_equal(drawn[0], plain)
    assert (error < 5 * np.asarray(drawn).std(0) / np.sqrt(4000) + 1e-6).all()


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (False, (64, 64))])
def test_splash_equals_the_reference_forward_and_backward(causal, window):
    q, k, v = inputs(batch=2, length=256, keys=256, heads=4, kv_heads=2, width=64)
    segments = jnp.asarray(np.repeat([[1, 2, 3, 0], [1, 1, 1, 2]], [50, 70, 100, 36], axis=1), jnp.int32)
    mask = masks.within_segments(segments, causal=causal, window=window)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=q.shape), jnp.float32)
    weights = weights * (segments > 0)[..., None, None]

    def both(call):
        return jit(
            jax.value_and_grad(lambda q, k, v: (call(q, k, v, mask) * weights).sum(), argnums=(0, 1, 2))
        )(q, k, v)

    expected = both(xla_attention)
    found = both(functools.partial(splash.attention, interpret=True))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, float(np.abs(a).max()))


def test_splash_on_a_mesh_works_on_each_device_s_share():
    q, k, v = inputs(batch=4, length=128, keys=128, heads=4, kv_heads=2, width=16)
    segments = jnp.asarray(np.repeat([[1, 2]], [50, 78], axis=1).repeat(4, 0), jnp.int32)
    mask = masks.within_segments(segments)
    expected = xla_attention(q, k, v, mask)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.set_mesh(mesh):
        found = jit(lambda q, k, v: splash.attention(q, k, v, mask, interpret=True))(q, k, v)
    np.testing.assert_allclose(expected, found, atol=1e-5)


@pytest.mark.parametrize(("causal", "window"), [(False, None), (True, None), (True, (200, 0))])
@pytest.mark.parametrize("kernel", ["splash", "xla"])
def test_a_row_on_several_devices_is_one_row(kernel, causal, window):
    """Documents lie across the devices, which trade queries under a causal mask; forward and backward."""
    length = 1024
    q, k, v = inputs(batch=2, length=length, keys=length, heads=4, kv_heads=2, width=16)
    ends = [[300, 410, 900, 1024], [20, 700, 1000, 1024]]
    segments = np.array([np.repeat([1, 2, 3, 0], np.diff(row, prepend=0)) for row in ends], np.int32)
    weights = np.random.default_rng(1).normal(size=q.shape) * (segments > 0)[..., None, None]
    mask = masks.within_segments(jnp.asarray(segments), causal=causal, window=window)
    attend = functools.partial(splash.attention, interpret=True) if kernel == "splash" else xla_attention

    def both(call):
        loss = lambda q, k, v: (call(q, k, v, mask) * weights).sum()
        return jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(q, k, v)

    expected = both(xla_attention)
    mesh = jax.make_mesh((1, 4, 2), ("data", "context", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.set_mesh(mesh):
        found = both(attend)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, float(np.abs(a).max()))


def test_devices_that_share_a_row_trade_early_places_for_late_ones():
    """Every device has one early and one late piece, so that each sees as many keys under a causal mask."""
    for devices in (2, 3, 4, 8):
        places = splash.places(32 * devices, devices)
        assert sorted(places) == list(range(32 * devices))
        seen = (places + 1).reshape(devices, -1).sum(axis=1)
        assert len(set(seen.tolist())) == 1


CASE = kernels.Case(
    platform="tpu",
    dtype="bfloat16",
    head_dim=64,
    query_length=512,
    key_length=512,
    dropout=False,
    positions=False,
    window=False,
)


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({}, "splash", "tpu"),
        ({"dropout": True}, "xla", "attention_dropout"),
        ({"query_length": 500}, "xla", "128s"),
        ({"positions": True}, "xla", "positions"),
        ({"prefix": True}, "xla", "prefix"),
        ({"bias": "shared"}, "biased", "tpu"),
        ({"query_length": 128, "key_length": 128}, "xla", "too few"),
        ({"platform": "cuda"}, "cudnn", "cuda"),
        ({"platform": "gpu", "dtype": "float32"}, "xla", "float32"),
        ({"platform": "gpu", "head_dim": 60}, "xla", "head width"),
        ({"platform": "gpu", "query_length": 511}, "xla", "even"),
        ({"platform": "gpu", "dropout": True}, "xla", "attention_dropout"),
        ({"platform": "rocm"}, "xla", "no kernel"),
        ({"platform": "cpu"}, "xla", "no kernel"),
    ],
    ids=str,
)
def test_the_capability_table(change, name, reason):
    choice = kernels.choose(dataclasses.replace(CASE, **change))
    assert choice.name == name and reason in choice.reason


def test_a_kernel_asked_for_by_name_is_taken_or_refused():
    assert kernels.choose(dataclasses.replace(CASE, key_length=128), "splash").name == "splash"
    with pytest.raises(
        UserError, match=r"model\.attention='cudnn'.*NVIDIA GPU.*Fix: --config\.model\.attention=auto"
    ):
        kernels.choose(CASE, "cudnn")
    assert kernels.choose(CASE, "xla").name == "xla"


def test_the_platform_is_the_one_of_the_mesh():
    q, k, _ = inputs()
    mask = masks.within_segments(jnp.asarray(SEGMENTS))
    assert kernels.case(q, k, mask, dropout=False).platform == "cpu"
    device = jax.sharding.AbstractDevice(device_kind="TPU v5", num_cores=1, platform="tpu")
    mesh = jax.sharding.AbstractMesh((4,), ("data",), (AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert kernels.case(q, k, mask, dropout=False).platform == "tpu"
