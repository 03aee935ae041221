"""Claims about every method of `jaxlm.views`: it begins as the model it stands on, computes what it is published to
compute, merges where it can, forms no gradient of what is frozen, and is the same on eight devices as on one."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.models import quantised
from jaxlm.models.cost import count_parameters
from jaxlm.models.paths import flatten
from jaxlm.models.values import plain
from jaxlm.run.program import Program
from jaxlm.views import IA3, AdaLoRA, Adapter, BitFit, DoRA, LoRA, houlsby, pfeiffer, rslora
from jaxlm.views.view import Facts
from tests.views.programs import LENGTH, MODELS, ROWS, D, F, batch, perturbed, products, program, run, steps

RANK = 3
ADALORA: dict[str, Any] = {"rank": RANK, "alpha": 6.0, "target_rank": 2, "every": 2}
METHODS = {
    "rslora": rslora(rank=RANK),
    "dora": DoRA(rank=RANK, alpha=6.0, scaling="rank"),
    "adalora": AdaLoRA(**ADALORA),
    "ia3": IA3(),
    "bitfit": BitFit(norms="all"),
    "houlsby": houlsby(width=RANK),
    "pfeiffer": pfeiffer(width=RANK),
    "bfloat16": LoRA(rank=RANK, alpha=6.0, scaling="rank", frozen="bfloat16"),
    "int8": DoRA(rank=RANK, alpha=6.0, scaling="rank", frozen="int8"),
    "nf4": LoRA(rank=RANK, alpha=6.0, scaling="rank", frozen="nf4"),
}
EXACT = {"rslora", "adalora", "ia3", "bitfit", "houlsby", "pfeiffer"}  # at the start, to the bit
LINEAR = METHODS.keys() - {"houlsby", "pfeiffer"}


@functools.cache
def built(name: str, method: str) -> Program:
    return program(run(name, METHODS[method]))


@functools.cache
def split(name: str, method: str):
    """(parameters, what is trained, what is frozen)."""
    made = built(name, method)
    params = jax.jit(made.model.init)(jax.random.key(0))
    return params, *made.view.split(params, made.facts, jax.random.key(1))


@functools.cache
def logits(name: str):
    """(whatever the model reads) -> logits, jitted."""
    made = built(name, "rslora")
    term = made.run.objective.token_term
    return jax.jit(lambda p: made.run.objective.predict(made.model.bind(p), batch(name), None)[term]())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_at_the_start_the_function_is_that_of_the_base(name, method):
    params, trained, frozen = split(name, method)
    ours = logits(name)(built(name, method).view.merge(trained, frozen))
    theirs = np.asarray(logits(name)(params))
    # What a base that is held in 8 bits is off by: 2^-9 of a weight in the mean of bfloat16, 1/254 of the largest in int8.
    off = {"bfloat16": 0.02, "int8": 0.05, "nf4": 0.5}.get(method, 0.0 if method in EXACT else 1e-6)
    assert np.abs(ours - theirs).max() <= off * np.abs(theirs[theirs > -1e8]).max()


@pytest.mark.parametrize("method", sorted(LINEAR))
@pytest.mark.parametrize("name", MODELS)
def test_unmerged_and_merged_weights_give_the_same_logits(name, method):
    params, trained, frozen = split(name, method)
    times = 5 if method == "adalora" else 1  # its update is a product of three
    noisy = functools.reduce(perturbed, range(1, times + 1), trained)
    merged = built(name, method).view.merge(noisy, frozen)
    whole = plain(merged)
    assert jax.tree.map(np.shape, whole) == jax.tree.map(np.shape, params)
    ours, theirs = logits(name)(merged), logits(name)(whole)
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)
    assert np.abs(theirs - logits(name)(params)).max() > 0.01, "the noise must be seen"


def pieces(method: str, path: str) -> tuple[dict[str, Any], Any]:
    """(what stands beside a weight of BERT, with noise, in float64; the weight as a matrix), second layer."""
    _, trained, frozen = split("bert", method)
    own = {
        p.rpartition("/")[2]: np.float64(x[1]) for p, x in flatten(perturbed(trained)).items() if path in p
    }
    return own, np.float64(flatten(frozen["0"])[path][1])


def merged(method: str, path: str) -> np.ndarray:
    _, trained, frozen = split("bert", method)
    return np.asarray(flatten(plain(built("bert", method).view.merge(perturbed(trained), frozen)))[path][1])


@pytest.mark.parametrize("path", ["blocks/attention/wk", "blocks/attention/wo", "blocks/mlp/w_in"])
def test_dora_is_the_published_formula(path):
    """Liu et al., 2402.09353, equation 5, of the flattened matrix."""
    own, base = pieces("dora", path)
    inputs = own["lora_a"].size // RANK
    moved = base.reshape(inputs, -1) + 2.0 * own["lora_a"].reshape(inputs, RANK) @ own["lora_b"].reshape(
        RANK, -1
    )
    expected = own["magnitude"].ravel() * moved / np.linalg.norm(moved, axis=0)
    np.testing.assert_allclose(merged("dora", path).reshape(inputs, -1), expected, atol=1e-6, rtol=0)


def test_doras_norm_is_a_constant_to_the_gradient():
    _, trained, frozen = split("bert", "dora")
    path, view = "blocks/mlp/w_in", METHODS["dora"]
    own = {
        name: jnp.float32(perturbed(flatten(trained)[f"{path}/{name}"]))
        for name in ("lora_a", "lora_b", "magnitude")
    }
    base = flatten(frozen["0"])[path]
    total = lambda own: jnp.square(view.value(path, base, own, {})[path].full()).sum()
    slope = jax.grad(total)(own)["lora_b"]
    a, b, m = (np.asarray(own[name], np.float64) for name in ("lora_a", "lora_b", "magnitude"))
    moved = np.float64(base) + 2.0 * a @ b
    gain = (m / np.linalg.norm(moved, axis=1))[:, None]
    np.testing.assert_allclose(slope, 2.0 * a.swapaxes(1, 2) @ (2 * gain**2 * moved), rtol=1e-4, atol=1e-4)


def test_ia3_scales_keys_values_hidden_units_and_the_biases_of_the_former():
    _, trained, frozen = split("bert", "ia3")
    noisy, base = perturbed(trained), flatten(frozen["0"])
    whole = flatten(plain(built("bert", "ia3").view.merge(noisy, {"0": perturbed(base)})))
    noisy, base = flatten(noisy), perturbed(base)
    key, hidden = noisy["blocks/attention/wk/ia3_out"], noisy["blocks/mlp/w_out/ia3_in"]
    assert key.shape == (2, 1, 4, D // 4) and hidden.shape == (2, F, 1)
    assert count_parameters(trained) == 2 * (2 * D + F)
    np.testing.assert_allclose(whole["blocks/attention/wk"], base["blocks/attention/wk"] * key, rtol=1e-6)
    np.testing.assert_allclose(
        whole["blocks/attention/bk"], base["blocks/attention/bk"] * key[:, 0], rtol=1e-6
    )
    np.testing.assert_allclose(whole["blocks/mlp/w_out"], base["blocks/mlp/w_out"] * hidden, rtol=1e-6)
    np.testing.assert_array_equal(whole["blocks/mlp/b_out"], base["blocks/mlp/b_out"])


def test_a_bottleneck_is_the_published_formula_and_no_weight():
    """Houlsby et al., 1902.00751, figure 2, on the output with its bias; in float64."""
    _, trained, frozen = split("bert", "pfeiffer")
    merged = flatten(
        built("bert", "pfeiffer").view.merge(perturbed(trained), {"0": perturbed(flatten(frozen["0"]))})
    )
    value = jax.tree.map(lambda x: x[1], merged["blocks/mlp/w_out"])
    x = np.random.default_rng(0).normal(size=(5, F))
    base, bias, down, b_down, up, b_up = (
        np.float64(getattr(value, name)) for name in ("base", "bias", "down", "b_down", "up", "b_up")
    )
    assert bias.any()
    h = x @ base + bias
    expected = h + np.maximum(h @ down + b_down, 0) @ up + b_up
    np.testing.assert_allclose(jnp.float32(x) @ value + value.bias, expected, atol=1e-5)
    with pytest.raises(UserError, match="cannot be merged. Fix: use the run itself"):
        np.asarray(plain(merged)["blocks/mlp/w_out"])


def test_the_trained_share_is_what_one_counts_by_hand():
    norms, bottleneck = 2 * 2 * D, 2 * D * RANK + RANK + D
    counted = {name: count_parameters(split("bert", name)[1]) for name in METHODS}
    head = count_parameters(split("bert", "rslora")[0]["heads"])
    assert counted["pfeiffer"] == 2 * bottleneck + head
    assert counted["houlsby"] == 2 * (2 * bottleneck + norms) + 2 * D + head
    thin = 2 * (4 * 2 * D + 2 * (D + F)) * RANK
    assert counted["adalora"] == thin + 2 * 6 * RANK
    assert counted["dora"] == thin + 2 * (5 * D + F)


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"bitfit"}))
def test_no_gradient_of_a_frozen_weight_is_ever_formed(method):
    """A weight's gradient is known by its number of elements, which no other product here has."""
    sizes = {D * D, D * F}
    assert ROWS * LENGTH * D not in sizes
    size_of = lambda found: {int(np.prod(shape)) for shape in found}
    # The head of rslora and the adapters is trained whole: it has a matrix of the model's width.
    heads = {D * D} if METHODS[method].also else set()
    assert sizes <= size_of(products(program(run("bert")), "bert")), "full training forms them all"
    assert not (sizes - heads) & size_of(products(built("bert", method), "bert"))


def test_frozen_matrices_are_held_as_asked():
    frozen = flatten(split("bert", "bfloat16")[2]["0"])
    assert {p for p, x in frozen.items() if x.dtype == jnp.bfloat16} == {
        p for p, one in built("bert", "bfloat16").facts.items() if one.inputs
    }
    frozen = flatten(split("bert", "int8")[2]["0"])
    assert frozen["blocks/mlp/w_in/int8"].dtype == jnp.int8 and frozen["blocks/mlp/w_in/scale"].shape == (
        2,
        1,
        F,
    )
    assert frozen["embeddings/tokens/table"].dtype == jnp.bfloat16 and "blocks/mlp/w_in" not in frozen


@pytest.mark.parametrize(
    ("inputs", "groups"), [((128,), (2,)), ((4, 32), (2, 1)), ((48,), (3,)), ((24,), (1,))]
)
def test_four_bits_have_a_scale_for_64_inputs_or_what_divides_them(inputs, groups):
    """Equation 2 of 2305.14314: by the largest of a group, to the nearest of 16 quantiles."""
    path, one = "blocks/mlp/w_in", Facts(("layers", *("in",) * len(inputs), "mlp"), len(inputs))
    weight = np.random.default_rng(0).standard_normal((2, *inputs, 5)).astype(np.float32)
    _, frozen = METHODS["nf4"].split({path: jnp.asarray(weight)}, {path: one}, jax.random.key(0))
    assert frozen[f"{path}/nf4"].dtype == jnp.uint4
    assert frozen[f"{path}/scale"].shape == (2, *groups, *(1 for _ in inputs[len(groups) :]), 5)
    grouped = weight.reshape(2, math.prod(groups), -1, 5)
    largest = np.abs(grouped).max(2, keepdims=True)
    codes = np.abs(grouped[..., None] / largest[..., None] - quantised._NF4).argmin(-1)
    np.testing.assert_array_equal(np.asarray(frozen[f"{path}/nf4"], np.int32), codes.reshape(weight.shape))


@pytest.mark.parametrize(
    "method", ["int8", "nf4", "adalora", pytest.param("houlsby", marks=pytest.mark.slow)]
)
def test_eight_devices_train_what_one_does(method):
    params = jax.device_get(split("bert", method)[0])
    one, _, losses = steps(built("bert", method), params, 3, "bert")
    state, _, means = steps(
        program(run("bert", METHODS[method]), data=2, fsdp=2, tensor=2), params, 3, "bert"
    )
    ours, theirs = flatten(state.params), flatten(one.params)
    for path in ours.keys() | theirs.keys():
        np.testing.assert_allclose(ours[path], theirs[path], atol=1e-5, rtol=0, err_msg=path)
    assert means[-1]["loss"] == pytest.approx(losses[-1]["loss"], rel=1e-5)
    assert any(not np.array_equal(ours[p], one) for p, one in flatten(split("bert", method)[1]).items())


def refused(name: str, *views) -> str:
    made = run(name, *views)
    with pytest.raises(UserError) as caught:
        made.validate()
        program(made)
    return str(caught.value)


def test_what_cannot_work_is_refused_by_name():
    assert "config.view[0]: BitFit trains biases, and this model has none" in refused("llama", BitFit())
    assert "matches embeddings/tokens/table, a table" in refused(
        "bert", DoRA(rank=2, alpha=2.0, scaling="rank", targets="embeddings/tokens")
    )
    assert "which is not the output of a layer" in refused("bert", Adapter(width=2, targets=".*mlp/w_in"))
    assert "config.view[0].width=0: must be above 0" in refused("bert", Adapter(width=0))
    assert "target_rank=4: from 1 to rank=3" in refused("bert", AdaLoRA(**{**ADALORA, "target_rank": 4}))
