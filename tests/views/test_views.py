"""Claims about views: LoRA begins as the model it stands on, computes what the merged model does, and what is frozen
costs no gradient, no moment, and does not move."""

import functools

import jax
import numpy as np
import pytest

from jaxlm.checkpoint import space
from jaxlm.errors import UserError
from jaxlm.models.cost import count_parameters
from jaxlm.models.paths import flatten
from jaxlm.models.values import Value, plain
from jaxlm.run.program import Program
from jaxlm.views import Freeze, LoRA
from tests.views.programs import (
    LENGTH,
    MODELS,
    ROWS,
    D,
    F,
    batch,
    perturbed,
    products,
    program,
    run,
    steps,
)

EVERYTHING = ".*"  # the table of tokens, positions and heads too
RANK, ALPHA = 3, 5.0


def lora(targets: str = EVERYTHING, **changes) -> LoRA:
    return LoRA(**{"rank": RANK, "alpha": ALPHA, "scaling": "sqrt", "targets": targets, **changes})


@functools.cache
def built(name: str, *view: str) -> Program:
    """With LoRA on these targets."""
    return program(run(name, *(lora(one) for one in view)))


@functools.cache
def logits(name: str):
    """(whatever the model reads) -> logits, jitted."""
    made = built(name, EVERYTHING)
    term = made.run.objective.token_term

    def of(params):
        return made.run.objective.predict(made.model.bind(params), batch(name), None)[term]()

    return jax.jit(of)


@functools.cache
def split(name: str):
    """(parameters, what is trained, what is frozen)."""
    made = built(name, EVERYTHING)
    params = jax.jit(made.model.init)(jax.random.key(0))
    return params, *made.view.split(params, made.facts, jax.random.key(1))


@pytest.mark.parametrize("name", MODELS)
def test_at_the_start_the_function_is_that_of_the_base(name):
    params, trained, frozen = split(name)
    merged = built(name, EVERYTHING).view.merge(trained, frozen)
    values = {path for path, one in flatten(merged).items() if isinstance(one, Value)}
    assert values == {path for path, one in built(name, EVERYTHING).facts.items() if one.inputs}
    assert {path.split("/")[-1] for path in values} >= {"table", "wq", "wo"}
    np.testing.assert_array_equal(logits(name)(merged), logits(name)(params))


@pytest.mark.parametrize("name", MODELS)
def test_unmerged_and_merged_weights_give_the_same_logits(name):
    params, trained, frozen = split(name)
    merged = built(name, EVERYTHING).view.merge(perturbed(trained), frozen)
    whole = plain(merged)
    assert jax.tree.map(np.shape, whole) == jax.tree.map(np.shape, params)
    ours, theirs = logits(name)(merged), logits(name)(whole)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    assert np.abs(theirs - logits(name)(params)).max() > 0.1, "the noise must be seen"


def test_the_update_is_the_published_product_in_every_layer():
    """Kalajdzievski, 2312.03732: W + alpha / sqrt(rank) A B, of the flattened matrix; in float64."""
    _, trained, frozen = split("bert")
    trained = flatten(perturbed(trained))
    for scaling, scale in (("sqrt", ALPHA / RANK**0.5), ("rank", ALPHA / RANK)):
        view = lora(scaling=scaling)
        base = flatten(frozen["0"])
        whole = plain(view.merge(trained, base))
        for path, inputs in (
            ("blocks/attention/wq", D),
            ("blocks/attention/wo", D),
            ("blocks/mlp/w_out", F),
        ):
            for layer in range(2):
                a = np.float64(trained[f"{path}/lora_a"][layer]).reshape(inputs, RANK)
                b = np.float64(trained[f"{path}/lora_b"][layer]).reshape(RANK, D)
                expected = np.float64(base[path][layer]).reshape(inputs, D) + scale * a @ b
                got = np.asarray(whole[path][layer]).reshape(inputs, D)
                np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)


def test_a_begins_uniform_within_the_published_bound_and_b_at_zero():
    _, trained, _ = split("bert")
    for path, array in flatten(trained).items():
        bound = F**-0.5 if path == "blocks/mlp/w_out/lora_a" else D**-0.5
        if path.endswith("lora_b"):
            assert not np.any(array), path
        elif path.startswith("blocks"):
            assert 0.9 * bound < np.abs(array).max() <= bound and abs(np.mean(array)) < 0.3 * bound, path


def test_the_trained_share_is_what_one_counts_by_hand():
    made = program(run("bert", LoRA(rank=RANK, alpha=ALPHA, scaling="rank")))
    per_layer = 4 * (D + D) * RANK + 2 * (D + F) * RANK
    assert count_parameters(made.state.params) == 2 * per_layer
    assert count_parameters(made.frozen) == count_parameters(made.params)


@pytest.mark.parametrize("name", MODELS)
def test_no_gradient_of_a_frozen_weight_is_ever_formed(name):
    """A weight's gradient is known by its number of elements, which no other product here has."""
    facts = built(name).facts
    layers = lambda path: 1 if facts[path].axes[0] == "layers" else 0
    shapes = {path: one.shape for path, one in flatten(built(name).params).items() if facts[path].inputs}
    sizes = {int(np.prod(shape[layers(path) :])) for path, shape in shapes.items()} - {0}
    size_of = lambda found: {int(np.prod(shape)) for shape in found}
    everything = size_of(products(built(name), name))
    large = {size for size in sizes if size >= D * D / 2}
    assert len(large) >= 3 and large <= everything, "full training forms them all"
    assert ROWS * LENGTH * D not in large and not large & size_of(products(built(name, EVERYTHING), name))


def test_moments_averages_and_the_state_hold_only_what_is_trained():
    made = built("bert", EVERYTHING)
    trained = count_parameters(made.state.params)
    assert trained < count_parameters(made.params) / 2
    assert count_parameters(made.state.ema) == trained
    assert (
        4 * 4 * trained <= space.state_bytes(made.state) < 4 * 4 * trained + 100
    )  # 2 moments; a few counters


def test_freeze_leaves_what_matches_as_it_is_and_trains_the_rest():
    made = program(run("bert", Freeze(pattern="embeddings/.*|heads/tokens/w")))
    params = made.parameters()
    before = flatten(jax.device_get(params))
    state, frozen, _ = steps(made, params, 3, "bert")
    held, moved = flatten(jax.device_get(frozen["0"])), flatten(jax.device_get(state.params))
    assert set(held) == {p for p in before if p.startswith("embeddings/") or p == "heads/tokens/w"}
    assert set(held) | set(moved) == set(before)
    assert all(np.array_equal(held[path], before[path]) for path in held)
    still = {path for path in moved if np.array_equal(moved[path], before[path])}
    assert still <= {"blocks/attention/bk"}, "a bias of keys has no gradient"


CHAIN = (Freeze(pattern="embeddings/(positions|types|norm)"), lora(also="heads/tokens/.*"))


@functools.cache
def chained():
    """(parameters before, and `steps` after them) of both views, on one device."""
    made = program(run("bert", *CHAIN))
    params = jax.device_get(made.parameters())
    return params, *steps(made, params, 3, "bert")


def test_views_act_one_after_another():
    params, state, frozen, _ = chained()
    before, trained = flatten(params), flatten(state.params)
    assert all(p.startswith("heads/tokens/") or p.endswith(("/lora_a", "/lora_b")) for p in trained)
    assert {"heads/tokens/w", "embeddings/tokens/table/lora_a"} <= set(trained)
    assert {path.split("/")[1] for path in flatten(frozen["0"])} == {"positions", "types", "norm"}
    for part in frozen.values():
        assert all(np.array_equal(one, before[path]) for path, one in flatten(part).items())
    whole = flatten(plain(program(run("bert", *CHAIN)).view.merge(state.params, frozen)))
    assert set(whole) == set(before)
    moved = {path for path in whole if not np.array_equal(whole[path], before[path])}
    assert {"blocks/mlp/w_in", "embeddings/tokens/table", "heads/tokens/w", "heads/tokens/b"} <= moved
    assert moved <= {p for p in before if "/w" in p or "table" in p or p.startswith("heads/tokens/")}


def test_eight_devices_train_what_one_does():
    params, one, _, losses = chained()
    state, frozen, means = steps(program(run("bert", *CHAIN), data=2, fsdp=2, tensor=2), params, 3, "bert")
    ours, theirs = flatten(state.params), flatten(one.params)
    for path in ours.keys() | theirs.keys():
        np.testing.assert_allclose(ours[path], theirs[path], atol=1e-5, rtol=0, err_msg=path)
    assert means[-1]["loss"] == pytest.approx(losses[-1]["loss"], rel=1e-5)
    before = flatten(params)
    for part in frozen.values():
        assert all(np.array_equal(held, before[path]) for path, held in flatten(part).items())


def refused(*views) -> str:
    made = run("bert", *views)
    with pytest.raises(UserError) as caught:
        made.validate()
        program(made)
    return str(caught.value)


def test_what_cannot_work_is_refused_by_name():
    freeze, thin = Freeze(pattern="encoder/.*"), lora("embedings/.*")
    assert "config.view[0].pattern='encoder/.*' matches 0 of 26 parameters" in refused(freeze)
    assert "config.view[0].pattern='.*' matches 26 of 26 parameters" in refused(Freeze(pattern=".*"))
    assert "config.view[0].targets='embedings/.*' matches no matrix. There are: blocks/" in refused(thin)
    assert "config.view[0].pattern='(' is not a regular expression: " in refused(Freeze(pattern="("))
    assert "config.view[0].targets='*' is not a regular expression: " in refused(lora("*"))
    assert "config.view[0].also='[' is not a regular expression: " in refused(lora(also="["))
    assert "config.view[0].rank=0: must be above 0" in refused(lora(rank=0))
    assert "config.view[0].alpha=-1.0: must be above 0" in refused(lora(alpha=-1.0))
    second = refused(Freeze(pattern="embeddings/.*"), lora("embeddings/tokens/.*"))
    assert "config.view[1].targets='embeddings/tokens/.*' matches no matrix" in second
