"""Quantised weights against float64 numpy, and whole models with them against the same models with plain arrays."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.models import quantised
from jaxlm.models.beside import Scaled
from jaxlm.models.build import build
from jaxlm.models.factors import Factors
from jaxlm.models.forms import taken_apart
from jaxlm.models.paths import flatten, nest
from jaxlm.models.turned import Turned, turned
from jaxlm.models.values import whole
from jaxlm.views.rounding import Rounding, is_table
from jaxlm.views.view import facts
from tests.infer.small_models import DECODERS, ENCODER_DECODERS

SHAPE = (3, 4, 16, 10)  # layers, heads, head_dim, embed
BLOCKS = [(3, 1, 1, 10), (3, 4, 1, 10), (3, 4, 2, 10), (3, 2, 1, 10)]
KINDS = [("int8", False), ("int8", True), ("int4", False), ("int4", True), ("nf4", False), ("fp8", False)]
AXES = {"tokens": {"table": ("vocab", "embed")}, "norm": ("embed",)}
LEVELS = {"int8": np.arange(-127, 128) / 127, "int4": np.arange(-7, 8) / 7}


def drawn(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_group(array, blocks):
    """[group, members], in float64."""
    shape = [n for size, count in zip(array.shape, blocks, strict=True) for n in (count, size // count)]
    order = [*range(0, len(shape), 2), *range(1, len(shape), 2)]
    return np.asarray(array, np.float64).reshape(shape).transpose(order).reshape(int(np.prod(blocks)), -1)


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_every_number_becomes_the_nearest_level_of_its_group(kind, blocks):
    w = drawn(SHAPE)
    found = by_group(quantised.encode(jnp.asarray(w), blocks, kind).full(), blocks)
    groups = by_group(w, blocks)
    levels = np.abs(groups).max(1, keepdims=True)[:, :, None] * LEVELS[kind]
    nearest = np.take_along_axis(levels, np.abs(groups[:, :, None] - levels).argmin(-1)[:, :, None], -1)[
        ..., 0
    ]
    np.testing.assert_allclose(found, nearest, atol=2e-6)


def test_lowest_and_highest_of_a_group_are_kept():
    w = drawn(SHAPE) + 2
    for kind, steps in (("int8", 255), ("int4", 15)):
        groups = by_group(w, BLOCKS[2])
        found = by_group(quantised.encode(jnp.asarray(w), BLOCKS[2], kind, low=True).full(), BLOCKS[2])
        width = (groups.max(1) - groups.min(1)) / steps
        np.testing.assert_allclose(found.min(1), groups.min(1), atol=1e-5)
        np.testing.assert_allclose(found.max(1), groups.max(1), atol=1e-5)
        assert (np.abs(found - groups).max(1) <= width / 2 + 1e-5).all()


def test_float8_is_that_of_ml_dtypes():
    w = drawn(SHAPE)
    scale = np.abs(w).max((1, 2), keepdims=True) / 448
    expected = (w / scale).astype(jnp.float8_e4m3fn).astype(np.float32) * scale
    np.testing.assert_allclose(quantised.encode(jnp.asarray(w), BLOCKS[0], "fp8").full(), expected, rtol=1e-6)


@pytest.mark.parametrize("blocks", [BLOCKS[0], BLOCKS[2]])
@pytest.mark.parametrize(("kind", "low"), KINDS)
@pytest.mark.parametrize("rows", [(1, 1), (13, 7)])
def test_a_product_is_that_of_the_whole(kind, low, blocks, rows):
    value = jax.tree.map(lambda a: a[1], quantised.encode(jnp.asarray(drawn(SHAPE)), blocks, kind, low=low))
    x = drawn((*rows, *SHAPE[1:3]), 1)
    expected = np.tensordot(x.astype(np.float64), np.asarray(value.full(), np.float64), 2)
    np.testing.assert_allclose(value.product(jnp.asarray(x), 2, None), expected, atol=2e-5)


@pytest.mark.parametrize("rows", [(1, 1), (2, 5)])
@pytest.mark.parametrize(("activations", "largest"), [("int8", 127), ("int16", 32639)])
def test_whole_numbers_by_eight_bits_are_sums_of_integers(activations, largest, rows):
    value = jax.tree.map(
        lambda a: a[2], quantised.encode(jnp.asarray(drawn(SHAPE)), BLOCKS[0], "int8", activations)
    )
    numbers = np.random.default_rng(1).integers(-largest, largest, (math.prod(rows), 64))
    numbers[:, 3] = largest  # so that rounding finds these numbers again
    own = 2.0 ** -np.arange(1, len(numbers) + 1)[:, None]
    x = (numbers * own).reshape(*rows, *SHAPE[1:3]).astype(np.float32)
    sums = numbers @ np.asarray(value.codes, np.int64).reshape(64, 10)
    expected = (sums * own * np.asarray(value.scale, np.float64).reshape(1, 10)).reshape(*rows, 10)
    np.testing.assert_allclose(value.product(jnp.asarray(x), 2, None), expected, rtol=1e-5, atol=1e-6)


def test_sixteen_bits_are_nearly_the_floating_product():
    codes = quantised.encode(jnp.asarray(drawn((512, 6))), (1, 6), "int8")
    x = jnp.asarray(drawn((3, 512), 1)).at[0, 0].set(-100).at[1, 7].set(3000)  # outliers, one below 0
    expected = np.asarray(x, np.float64) @ np.asarray(codes.full(), np.float64)
    found = dataclasses.replace(codes, activations="int16").product(x, 1, None)
    step = np.abs(np.asarray(x)).max(1, keepdims=True) / 32639  # rounding errors are below half of it
    bound = 6 * step / 12**0.5 * np.linalg.norm(np.asarray(codes.full(), np.float64), axis=0)
    assert (np.abs(found - expected) < bound + 2e-4).all()
    coarse = dataclasses.replace(codes, activations="int8").product(x, 1, None)
    assert np.abs(coarse - expected).max() > 20 * np.abs(found - expected).max()


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_a_gradient_passes_whole_numbers_as_if_nothing_of_the_input_were_rounded(activations):
    value = jax.tree.map(
        lambda a: a[0], quantised.encode(jnp.asarray(drawn(SHAPE)), BLOCKS[0], "int8", activations)
    )
    x = jnp.asarray(drawn((2, 5, *SHAPE[1:3]), 1))
    g = jnp.asarray(drawn((2, 5, 10), 2))
    found = jax.vjp(lambda x: value.product(x, 2, None), x)[1](g)[0]
    np.testing.assert_allclose(found, np.einsum("btd,nhd->btnh", g, value.full()), atol=2e-5)


@pytest.mark.parametrize(("kind", "low"), KINDS)
def test_rows_of_a_table_and_what_decodes_with_it(kind, low):
    table = quantised.encode(jnp.asarray(drawn((7, 32))), (7, 2), kind, low=low)
    ids = jnp.asarray([[1, 6], [0, 1]])
    np.testing.assert_array_equal(table[ids], table.full()[ids])
    x = drawn((3, 32), 1)
    np.testing.assert_allclose(x @ table.T, x @ np.asarray(table.full()).T, atol=2e-5)


@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_a_table_that_lies_as_it_decodes_is_the_same_table(activations):
    table = quantised.encode(jnp.asarray(drawn((7, 32))), (7, 1), "int8", activations)
    norm = jnp.ones(32)
    params = turned({"tokens": {"table": table}, "norm": norm}, AXES)
    held = params["tokens"]["table"]
    assert isinstance(held, Turned) and held.decoding.codes.shape == (32, 7) and params["norm"] is norm
    assert held.shape == table.shape
    ids = jnp.asarray([[1, 6], [0, 1]])
    np.testing.assert_array_equal(held[ids], table[ids])
    np.testing.assert_array_equal(held.full(), table.full())
    for rows in (1, 3):
        x = jnp.asarray(drawn((rows, 32), 1))
        np.testing.assert_array_equal(x @ held.astype(jnp.float32).T, x @ table.T)


def test_only_tables_of_whole_number_products_are_turned():
    table = quantised.encode(jnp.asarray(drawn((7, 32))), (7, 1), "int8")
    params = {"tokens": {"table": table}, "norm": jnp.ones(32)}
    assert turned(params, AXES)["tokens"]["table"] is table


@pytest.mark.parametrize(("kind", "low"), KINDS)
@pytest.mark.parametrize("width", [10, 7])
def test_what_is_kept_on_disk_is_the_same_value(kind, low, width):
    value = quantised.encode(jnp.asarray(drawn((2, 8, width))), (2, 1, width), kind, low=low)
    arrays, forms = taken_apart({"a/w": value})
    again = forms["a/w"].value({name.removeprefix("a/w/"): array for name, array in arrays.items()})
    np.testing.assert_array_equal(again.full(), value.full())
    if kind in ("int4", "nf4") and width % 2 == 0:
        assert arrays["a/w/codes"].nbytes == 2 * 8 * width // 2


def test_factors_are_their_product():
    a, b = drawn((3, 4, 6, 2)), drawn((3, 2, 5), 1)
    np.testing.assert_allclose(
        Factors(jnp.asarray(a), jnp.asarray(b), 2).full(), np.einsum("lnhr,lrd->lnhd", a, b), atol=1e-6
    )
    one, x = Factors(jnp.asarray(a[0]), jnp.asarray(b[0]), 2), drawn((2, 4, 6), 2)
    np.testing.assert_allclose(
        one.product(jnp.asarray(x), 2, None), np.einsum("bnh,nhr,rd->bd", x, a[0], b[0]), atol=1e-5
    )


RULE = Rounding(weights=".*", kind="int4", group=0, low=False, activations="float")


@pytest.mark.parametrize(
    "config", [*DECODERS.values(), *ENCODER_DECODERS.values()], ids=[*DECODERS, *ENCODER_DECODERS]
)
def test_every_family_computes_with_values_what_it_computes_with_their_arrays(config):
    model = build(config)
    params, known = flatten(jax.jit(model.init)(jax.random.key(0))), facts(model)
    chosen = [path for path, one in known.items() if one.inputs and (not is_table(one) or "tokens" in path)]
    chosen = [path for path in chosen if "buckets" not in known[path].axes]
    values = {path: RULE.nearest(path, known[path], params[path] * 3) for path in chosen}
    tokens = np.random.default_rng(0).integers(0, 100, (2, 9)).astype(np.int32)
    like, places = np.ones_like(tokens), np.broadcast_to(np.arange(9, dtype=np.int32), tokens.shape)
    batch = Batch(tokens_BT=tokens, segments_BT=like, positions_BT=places, types_BT=0 * tokens)
    if config.kind == "encoder_decoder":
        batch = Batch(
            **vars(batch)
            | {"source_tokens_BS": tokens, "source_segments_BS": like, "source_positions_BS": places}
        )

    def logits(weights):
        module = model.bind(nest(params | weights))
        return module.predict_tokens(module.encode(batch, None).x_BTD)

    plain = {path: whole(value) for path, value in values.items()}
    np.testing.assert_allclose(jax.jit(logits)(values), jax.jit(logits)(plain), rtol=2e-4, atol=2e-4)


def test_scales_stay_float32_inside_other_values():
    inner = jnp.ones((2, 1, 1, 1), jnp.float32)
    value = Scaled(quantised.encode(jnp.asarray(drawn((2, 4, 6, 5))), (2, 1, 1, 5), "int8"), inner, None)
    cast = value.astype(jnp.bfloat16)
    assert cast.inner.dtype == jnp.bfloat16 and cast.base.scale.dtype == jnp.float32
