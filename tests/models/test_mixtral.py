"""Claims about Mixtral besides parity: its terms, what is trained beside its experts, refusals."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.mixtral import Mixtral
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import plain
from jaxlm.training import probe
from jaxlm.views import Adapter, LoRA, pfeiffer
from jaxlm.views.view import facts
from tests.infer.small_models import DECODERS, made

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CONFIG = dataclasses.replace(DECODERS["Mixtral"], balance_loss=0.5, router_z_loss=0.25)
EXPERTS = r".*(attention|experts)/w"


def batch(rows=3, length=11):
    rng = np.random.default_rng(3)
    segments = (np.arange(length)[None] < np.array([length, 6, 9])[:rows, None]).astype(np.int32)
    ids = rng.integers(1, CONFIG.vocab_size, (rows, length)).astype(np.int32)
    positions = np.arange(length, dtype=np.int32)[None] * segments
    return Batch(tokens_BT=ids * segments, segments_BT=segments, positions_BT=positions)


def test_the_terms_are_weighted_and_the_same_wherever_features_are_asked_for():
    _, params = made(CONFIG)
    encode = lambda config, at: jit(lambda p: build(config).bind(p).encode(batch(), at_BM=at))(params)
    whole, places = encode(CONFIG, None), np.array([[1], [4], [2]])
    some = encode(CONFIG, places)
    assert set(whole.terms) == {"balance", "router_z"}
    np.testing.assert_array_equal(some.x_BTD, np.take_along_axis(whole.x_BTD, places[..., None], 1))
    jax.tree.map(np.testing.assert_array_equal, some.terms, whole.terms)
    twice = encode(dataclasses.replace(CONFIG, balance_loss=1.0, router_z_loss=0.0), None).terms
    assert set(twice) == {"balance"}
    np.testing.assert_allclose(twice["balance"][0], 2 * whole.terms["balance"][0], rtol=1e-6)


@pytest.mark.parametrize("remat", ["block", "dots"])
def test_remat_and_scan_change_nothing(remat):
    _, params = made(CONFIG)

    def gradient(**changes):
        model = build(dataclasses.replace(CONFIG, **changes))

        def loss(params):
            found = model.bind(params).encode(batch())
            return jnp.square(found.x_BTD).mean() + sum(total for total, _ in found.terms.values())

        return jit(jax.grad(loss))(params)

    plain, other = gradient(layer_loop="unrolled"), gradient(layer_loop="scan", remat=remat)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * float(jnp.abs(a).max()))


@pytest.mark.parametrize("frozen", ["float32", "int8"])
def test_lora_beside_every_expert_is_the_model_with_what_it_merges_to(frozen):
    model, params = made(CONFIG)
    view = LoRA(rank=3, alpha=6.0, scaling="rank", targets=EXPERTS, frozen=frozen)
    of_model = facts(model)
    trained, held = view.split(flatten(params), of_model, jax.random.key(0))
    layers, experts = CONFIG.layers, CONFIG.experts
    assert trained["blocks/experts/w_gate/lora_a"].shape == (layers, experts, CONFIG.hidden, 3)
    assert trained["blocks/experts/w_gate/lora_b"].shape == (layers, experts, 3, CONFIG.mlp)
    rng = np.random.default_rng(0)
    trained = {name: a + 0.1 * rng.normal(size=a.shape).astype("f") for name, a in trained.items()}
    merged = nest(view.merge(trained, held))
    run = jit(lambda p: model.bind(p).encode(batch()).x_BTD)
    np.testing.assert_allclose(run(merged), run(plain(merged)), atol=1e-4)
    if frozen == "float32":
        a, b = (trained[f"blocks/experts/w_out/lora_{x}"].astype(float) for x in "ab")
        whole = params["blocks"]["experts"]["w_out"] + 2 * np.einsum("lefr,lerd->lefd", a, b)
        np.testing.assert_allclose(plain(merged)["blocks"]["experts"]["w_out"], whole, atol=1e-5)


def test_lora_as_it_is_leaves_experts_alone_and_what_needs_an_mlp_says_so():
    of_model = facts(build(CONFIG))
    beside = LoRA(rank=3, alpha=6.0, scaling="rank").facts(of_model)
    assert beside and not any("experts" in path for path in beside)
    with pytest.raises(UserError, match="matches no matrix. There are: blocks/attention/wk"):
        pfeiffer(width=3).check(of_model, "config.view[0]")
    with pytest.raises(UserError, match="matches blocks/experts/w_out, which is not the output of a layer"):
        Adapter(width=3, targets=".*experts/w_out").check(of_model, "config.view[0]")


def test_isolation_is_probed_with_one_expert_that_every_token_takes():
    shallow = probe._shallow(CONFIG, ())
    shallow.validate("model")
    assert (shallow.experts, shallow.experts_per_token, shallow.layers) == (1, 1, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"experts": 0}, ("model.experts=0", "at least 1")),
        ({"experts_per_token": 6}, ("model.experts_per_token=6", "model.experts=5")),
        ({"balance_loss": -1.0}, ("model.balance_loss=-1.0", "0 (none) or above")),
        ({"router_z_loss": float("nan")}, ("model.router_z_loss=nan",)),
        ({"kv_heads": 4}, ("model.heads=6", "model.kv_heads=4")),
    ],
)
def test_a_wrong_config_is_refused_with_its_key(change, words):
    with pytest.raises(UserError) as caught:
        dataclasses.replace(CONFIG, **change).validate("model")
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("change", [{"biases": "qkv"}, {"qk_norm": "head"}, {"windows": (4, 0)}])
def test_what_transformers_mixtral_has_not_is_not_written(change):
    with pytest.raises(UserError, match="transformers' Mixtral has no biases"):
        families.to_hf_config(dataclasses.replace(CONFIG, **change))


def test_a_router_with_noise_is_refused():
    hf = families.to_hf_config(CONFIG)
    with pytest.raises(UserError, match="router_jitter_noise=0.1 is not supported"):
        families.config_from_hf(hf | {"router_jitter_noise": 0.1})
    assert isinstance(families.config_from_hf(hf), Mixtral)
