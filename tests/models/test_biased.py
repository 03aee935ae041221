"""Claims about the TPU's kernel with a bias on the scores: equal to the reference, on every device's share, in a T5."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models import attention as attentions
from jaxlm.models import biased, kernels, masks
from jaxlm.models.attention import xla_attention
from jaxlm.models.build import build
from tests.infer.small_models import ENCODER_DECODERS

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
interpreted = functools.partial(biased.attention, interpret=True)


def rows(length, *lengths):
    """Segments 1, 2, ... of such lengths, and padding."""
    ends = [[*one, length - sum(one)] for one in lengths]
    return jnp.asarray([np.repeat([*range(1, len(one)), 0], one) for one in ends], jnp.int32)


def drawn(*, batch, queries, keys, heads, width, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    q, k, v = draw(batch, queries, heads, width) / 4, *(draw(batch, keys, heads, width) for _ in range(2))
    bias, weights = draw(heads, queries, keys), draw(*q.shape)
    return *(x.astype(dtype) for x in (q, k, v)), bias, weights


def forward_and_gradients(call, arrays, mask, weights):
    """The output, and the gradients of q, k, v and the bias."""

    def loss(q, k, v, bias):
        o_BTNH = call(q, k, v, mask, bias).astype(jnp.float32)
        return (o_BTNH * weights).sum(), o_BTNH

    (_, output), gradients = jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(*arrays)
    return [np.asarray(x, np.float32) for x in (output, *gradients)]


def near(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() <= tolerance * max(1.0, np.abs(other).max())


CASES = {
    "three tiles": (False, 384, 384, 3, 64),
    "causal": (True, 384, 384, 1, 16),
    "more keys than queries": (False, 128, 256, 2, 128),
    "fewer": (True, 256, 128, 2, 32),
}


@pytest.mark.parametrize(("causal", "queries", "keys", "heads", "width"), CASES.values(), ids=CASES)
def test_it_equals_the_reference_forward_and_backward(causal, queries, keys, heads, width):
    """Packed rows with padding, a row of padding alone; queries without any key have no gradient."""
    *arrays, weights = drawn(batch=3, queries=queries, keys=keys, heads=heads, width=width)
    segments = lambda length: rows(length, (length // 4, 30, length // 2), (length,), ())
    mask = masks.Mask(segments_BT=segments(queries), segments_BS=segments(keys), causal=causal)
    mask = dataclasses.replace(mask, segments_BT=mask.segments_BT.at[1, :9].set(7))
    found = forward_and_gradients(interpreted, arrays, mask, weights)
    sees_BT = np.asarray(masks.materialise(mask).allowed_BTS).any(-1)
    assert not sees_BT.all() and np.isfinite(found[0]).all() and not found[1][~sees_BT].any()
    seen = jnp.asarray(sees_BT)[..., None, None]
    expected = forward_and_gradients(xla_attention, arrays, mask, weights * seen)
    found = forward_and_gradients(interpreted, arrays, mask, weights * seen)
    near([found[0] * seen, *found[1:]], [expected[0] * seen, *expected[1:]], 3e-6)
    assert np.abs(expected[4]).max() > 0.1


def test_in_bfloat16_it_is_no_farther_from_float32_than_the_reference(monkeypatch):
    *arrays, weights = drawn(batch=2, queries=256, keys=256, heads=2, width=64, dtype="bfloat16")
    mask = masks.within_segments(rows(256, (100, 90), (200, 56)), causal=True)
    exact = forward_and_gradients(xla_attention, [x.astype(jnp.float32) for x in arrays], mask, weights)
    rounded = forward_and_gradients(xla_attention, arrays, mask, weights)
    # XLA:CPU has no such product of bfloat16 with sums in float32; in float32 each of its terms is exact.
    product, wide = biased._product, lambda x: x.astype(jnp.float32)
    monkeypatch.setattr(biased, "_product", lambda x, y, *how: product(wide(x), wide(y), *how))
    found = forward_and_gradients(interpreted, arrays, mask, weights)
    apart = lambda made: [np.abs(one - other).max() for one, other in zip(made, exact, strict=True)]
    for own, reference in zip(apart(found), apart(rounded), strict=True):
        assert own <= 1.5 * reference


def test_on_a_mesh_each_device_has_its_share_and_the_bias_the_gradient_of_all_rows():
    *arrays, weights = drawn(batch=4, queries=128, keys=128, heads=4, width=32)
    mask = masks.within_segments(rows(128, (50, 40), (128,), (1, 99), (64, 64)), causal=True)
    expected = forward_and_gradients(xla_attention, arrays, mask, weights)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    with jax.set_mesh(mesh):
        near(forward_and_gradients(interpreted, arrays, mask, weights), expected, 3e-6)


CONFIG = dataclasses.replace(
    ENCODER_DECODERS["T5"],
    vocab_size=250,
    hidden=64,
    decoder_layers=2,
    head_dim=32,
    mlp=96,
    buckets=32,
    max_distance=128,
    dropout=0.0,
)


def loss_and_gradients(config, batch, mesh):
    model = build(config)
    params = jax.jit(model.init)(jax.random.key(0))

    def loss(params):
        module = model.bind(params)
        logits_BTV = module.predict_tokens(module.encode(batch, None).x_BTD)
        chosen_BT = jnp.take_along_axis(jax.nn.log_softmax(logits_BTV), batch.tokens_BT[..., None], -1)[
            ..., 0
        ]
        return -jnp.where(batch.segments_BT > 0, chosen_BT, 0).sum()

    with jax.set_mesh(mesh):
        return jax.tree.leaves(jit(jax.value_and_grad(loss))(params))


def test_a_t5_over_rows_stages_and_heads_has_the_loss_and_gradients_of_the_reference(monkeypatch):
    rng = np.random.default_rng(0)
    source, target = rows(256, *[(100, 90)] * 4), rows(128, *[(40, 60)] * 4)
    draw = lambda like: jnp.asarray(rng.integers(5, 250, like.shape), jnp.int32)
    places = lambda like: jnp.broadcast_to(jnp.arange(like.shape[1]), like.shape)
    batch = Batch(
        tokens_BT=draw(target),
        segments_BT=target,
        positions_BT=places(target),
        source_tokens_BS=draw(source),
        source_segments_BS=source,
        source_positions_BS=places(source),
    )
    expected = loss_and_gradients(CONFIG, batch, jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,)))
    calls = []

    def with_kernel(q, k, v, mask, bias=None, *rest):
        if bias is None:  # of the source
            return xla_attention(q, k, v, mask, bias, *rest)
        calls.append(bias.shape)
        return interpreted(q, k, v, mask, bias)

    monkeypatch.setattr(attentions, "xla_attention", with_kernel)
    mesh = jax.make_mesh((2, 2, 2), ("data", "stage", "tensor"), axis_types=(AxisType.Auto,) * 3)
    found = loss_and_gradients(CONFIG, batch, mesh)
    assert {(4, 256, 256), (4, 128, 128)} == set(calls)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * max(1.0, float(jnp.abs(other).max())))


def test_a_bias_on_a_tpu_takes_it_where_a_row_fits():
    case = functools.partial(
        kernels.Case,
        platform="tpu",
        device_kind="TPU v5 lite",
        dtype="bfloat16",
        head_dim=64,
        dropout=False,
        positions=False,
        window=False,
        bias="shared",
    )
    of = lambda length, **others: kernels.choose(case(query_length=length, key_length=length, **others))
    assert of(512).name == of(1024).name == "biased"
    assert of(2048).name == "xla" and "2048 keys take" in of(2048).reason
    assert of(512, head_dim=72).name == "xla" and "16s" in of(512, head_dim=72).reason
    assert of(512, device_kind="TPU v4").name == "biased"
    assert (
        of(1024, device_kind="TPU v4").name == "xla"
        and "may have 16" in of(1024, device_kind="TPU v4").reason
    )
    assert of(128).name == "xla" and "too few" in of(128).reason
    refused = {
        "bias": ("of rows", "its own"),
        "dropout": (True, "model.dropout"),
        "positions": (True, "positions"),
        "prefix": (True, "prefix"),
        "window": (True, "window"),
        "grouped": (True, "key head"),
        "devices": (2, "mesh.context"),
    }
    for name, (value, reason) in refused.items():
        assert of(512, **{name: value}).name == "xla" and reason in of(512, **{name: value}).reason
    assert "128s" in of(520).reason
    with pytest.raises(UserError, match="adds no bias.*Fix: --config.model.attention=auto"):
        kernels.choose(case(query_length=512, key_length=512), "splash")


def test_a_case_says_what_the_kernel_depends_on():
    q, k, _, bias, _ = drawn(batch=4, queries=128, keys=128, heads=4, width=32)
    mask = masks.within_segments(rows(128, *[(100,)] * 4))
    case = functools.partial(kernels.case, dropout=False)
    assert case(q, k, mask).bias == "" and case(q, k, mask, bias=bias).bias == "shared"
    assert case(q, k, mask, bias=bias[None]).bias == "of rows"
    assert case(q, k[:, :, :2], mask).grouped and not case(q, k, mask).grouped
    assert case(q, k, mask).device_kind == jax.devices()[0].device_kind
