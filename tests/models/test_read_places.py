"""Claims about passes that are read at some places: what stands there is as of a whole pass, and less is computed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.config import flags
from jaxlm.models import masks, stack
from jaxlm.models.build import build
from tests.training.test_isolation import FAMILIES, ROOT, SMALL, batch

LENGTH, PLACES = 64, 20
SIZES = SMALL | {
    "layers": 2, "encoder_layers": 2, "decoder_layers": 2, "generator_layers": 2, "vocab_size": 512, "mlp": 56,
    "generator_mlp": 24, "dropout": 0.0, "attention_dropout": 0.0, "embedding_dropout": 0.0,
}  # fmt: skip


def small(family, **changes):
    run = flags.load(ROOT / "configs" / f"{family}.py")
    fields = {field.name for field in dataclasses.fields(run.model)}
    pattern = {"layers": 4} if "modernbert" in family else {}  # a global layer and local ones
    config = dataclasses.replace(
        run.model, **{k: v for k, v in (SIZES | pattern | changes).items() if k in fields}
    )
    model = build(config, {})
    return model, jax.jit(model.init)(jax.random.key(0)), batch(config.kind, LENGTH, rows=3)


def places():
    """Unsorted, with repeats, the last place and padding among them."""
    at_BM = np.random.default_rng(1).integers(LENGTH, size=(3, PLACES), dtype=np.int32)
    at_BM[:, :3] = LENGTH - 1, 0, 0
    return jnp.asarray(at_BM)


def weighed(x_BMD):
    """A number that every feature moves, whatever norms hold on to."""
    return (x_BMD * jnp.cos(jnp.arange(x_BMD.size)).reshape(x_BMD.shape)).sum()


@pytest.mark.parametrize(
    ("family", "loop"),
    [*((family, "unrolled") for family in FAMILIES), ("bert_base", "scan"), ("modernbert_base", "scan")],
)
def test_features_and_gradients_are_those_of_a_whole_pass(family, loop):
    model, params, row = small(family, layer_loop=loop)
    at_BM = places()

    def some(params):
        x_BMD = model.bind(params).encode(row, None, at_BM=at_BM).x_BTD
        return weighed(x_BMD), x_BMD

    def whole(params):
        x_BMD = masks.at_places(model.bind(params).encode(row, None).x_BTD, at_BM)
        return weighed(x_BMD), x_BMD

    found, wanted = (jax.jit(jax.grad(f, has_aux=True))(params) for f in (some, whole))
    assert found[1].shape == wanted[1].shape == (3, PLACES, wanted[1].shape[-1])
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        size = max(1.0, float(jnp.abs(other).max()))
        np.testing.assert_allclose(one, other, atol=2e-5 * size, rtol=0)


@pytest.mark.parametrize("family", ["bert_base", "albert_base", "gpt2_small", "llama_7b", "modernbert_base"])
def test_the_last_of_unrolled_layers_computes_no_more_than_is_read(family):
    model, params, row = small(family, layer_loop="unrolled")

    def flops(at_BM):
        encode = lambda params: model.bind(params).encode(row, None, at_BM=at_BM).x_BTD
        return jax.jit(encode).lower(params).cost_analysis()["flops"]

    assert flops(places()) < 0.92 * flops(None)


def test_where_most_is_read_or_scores_are_many_nothing_is_left_out():
    assert (
        stack.pays(20, 64) and stack.pays(76, 512) and not stack.pays(40, 64) and not stack.pays(1024, 8192)
    )
