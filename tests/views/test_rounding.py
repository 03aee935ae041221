"""Training that sees rounded weights: the numbers are those that are written later, the gradients those of the whole."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import whole
from jaxlm.views.beside import MATRICES
from jaxlm.views.rounding import QuantisationAware, Rounding
from jaxlm.views.view import facts
from tests.infer.small_models import LLAMA

CONFIG = dataclasses.replace(LLAMA, hidden=32, head_dim=8, heads=4, mlp=64, embeddings="tied")
FOUR = Rounding(weights=MATRICES, kind="int4", group=16, low=True, activations="float")
EIGHT = Rounding(weights=MATRICES, kind="int8", group=0, low=False, activations="int8")
TABLE = Rounding(weights=r".*tokens/table", kind="int8", group=0, low=False, activations="int8")


def split(view):
    model = build(CONFIG)
    params, known = flatten(model.init(jax.random.key(0))), facts(model)
    return model, params, known, view.split(params, known, jax.random.key(1))


def features(model, weights):
    tokens = np.random.default_rng(0).integers(0, 100, (2, 9)).astype(np.int32)
    like, places = np.ones_like(tokens), np.broadcast_to(np.arange(9, dtype=np.int32), tokens.shape)
    batch = Batch(tokens_BT=tokens, segments_BT=like, positions_BT=places, types_BT=0 * tokens)
    module = model.bind(nest(weights))
    return module.predict_tokens(module.encode(batch, None).x_BTD)[..., :101]


@pytest.mark.parametrize("rules", [(FOUR,), (EIGHT, TABLE)], ids=["int4", "int8 by int8"])
def test_training_reads_what_will_be_written(rules):
    view = QuantisationAware(rules=rules)
    model, params, known, (trained, frozen) = split(view)
    merged = view.merge(trained, frozen)
    rule = lambda path: next(
        (r for r in rules if path.endswith("table") == r.weights.endswith("table")), None
    )
    named = [name.removesuffix("/blocks") for name in frozen]
    written = {path: rule(path).nearest(path, known[path], params[path]) for path in named}
    for path in named:
        np.testing.assert_allclose(whole(merged[path]), written[path].full(), rtol=1e-6, atol=1e-7)
    found = jax.jit(lambda t: features(model, view.merge(t, frozen)))(trained)
    expected = jax.jit(lambda w: features(model, params | w))(written)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert np.abs(found - features(model, params)).max() > 1e-3


def test_gradients_are_those_of_the_rounded_model(tmp_path):
    view = QuantisationAware(rules=(FOUR,))
    model, params, _, (trained, frozen) = split(view)
    plain = {path: whole(value) for path, value in view.merge(trained, frozen).items()}
    loss = lambda weights: jnp.square(features(model, weights)).mean()
    found = jax.grad(lambda t: loss(view.merge(t, frozen)))(trained)
    expected = jax.grad(loss)(plain)
    for path in params:
        np.testing.assert_allclose(found[path], expected[path], rtol=1e-3, atol=1e-5)


def test_a_rule_that_names_nothing_is_refused():
    _, _, known, _ = split(QuantisationAware(rules=(FOUR,)))
    with pytest.raises(UserError, match="names no matrix"):
        QuantisationAware(rules=(dataclasses.replace(FOUR, weights="nothing"),)).check(
            known, "config.view[0]"
        )
