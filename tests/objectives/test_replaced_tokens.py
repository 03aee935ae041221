"""Claims about replaced-token detection: the two losses of two torch models, samples, labels, gradients, packing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.models.electra import Electra
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.replaced_tokens import ReplacedTokens, detection, filled
from jaxlm.objectives.targets import TokenTargets

V, LENGTHS, LENGTH = 101, (13, 7, 10), 13
CONFIG = Electra(
    vocab_size=V,
    embedding=10,
    hidden=36,
    layers=3,
    heads=4,
    mlp=56,
    generator_hidden=12,
    generator_layers=2,
    generator_heads=3,
    generator_mlp=20,
    max_positions=17,
    types=2,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-12,
    activation="gelu",
    init_scale=0.2,
)
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Fixed(ReplacedTokens):
    """Samples that are given, whatever the generator says."""

    fakes_BM = None

    def sample(self, logits_BMV, key):
        return self.fakes_BM


def objective(kind=ReplacedTokens, **changes):
    masked = MaskedLM(rate=0.2, evaluation_rate=0.15, mask_share=0.85, random_share=0.0, unit=Tokens())
    return kind(masked_lm=masked, **{"discriminator_weight": 50.0, "temperature": 1.0, **changes})


def make_batch():
    """One item a row; the last row has a slot without a target."""
    rng = np.random.default_rng(1)
    real = np.arange(LENGTH)[None] < np.array(LENGTHS)[:, None]
    return Batch(
        tokens_BT=np.where(real, rng.integers(1, V, real.shape), 0).astype(np.int32),
        segments_BT=real.astype(np.int32),
        positions_BT=np.tile(np.arange(LENGTH, dtype=np.int32), (3, 1)),
        types_BT=(real & (np.arange(LENGTH) > 4)).astype(np.int32),
        targets=TokenTargets(
            ids_BM=np.array([[17, 23, 31], [41, 53, 61], [71, 83, 0]], np.int32),
            weights_BM=np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]], np.float32),
            places_BM=np.array([[1, 5, 11], [2, 3, 6], [4, 8, 0]], np.int32),
        ),
    )


FAKES = np.array([[17, 24, 31], [9, 53, 3], [71, 6, 99]], np.int32)  # four of eight are original


def fixed():
    made = objective(Fixed)
    made.fakes_BM = FAKES
    return made


def params_of(model, seed=3):
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.2, x.shape), jnp.float32), model.shapes)
    table = params["discriminator"]["embeddings"]["tokens"]
    table["table"] = table["table"].at[V:].set(0)
    bias = params["heads"]["tokens"]
    bias["b_vocab"] = bias["b_vocab"].at[V:].set(0)
    return params


def shares(objective, module, batch, key=None):
    """What the step minimises."""
    loss = objective.loss(module, batch, key)
    weights = objective.weights(batch)
    return sum(total / weights[name] for name, (total, _) in loss.terms.items()), loss


def test_masks_are_filled_and_slots_without_a_target_write_nothing():
    batch = make_batch()
    expected = batch.tokens_BT.copy()
    for b in range(3):
        for m in range(3):
            if batch.targets.weights_BM[b, m]:
                expected[b, batch.targets.places_BM[b, m]] = FAKES[b, m]
    np.testing.assert_array_equal(filled(batch, FAKES), expected)
    assert expected[2, 0] == batch.tokens_BT[2, 0] != 99


def test_a_sample_that_hits_the_original_counts_as_original():
    batch = make_batch()
    replaced = np.asarray(filled(batch, FAKES) != filled(batch, batch.targets.ids_BM))
    assert sorted(zip(*np.nonzero(replaced), strict=True)) == [(0, 5), (1, 2), (1, 6), (2, 8)]


def test_detection_equals_its_definition_in_float64():
    rng = np.random.default_rng(2)
    logits, replaced, real = rng.normal(0, 3, (3, 7)), rng.random((3, 7)) < 0.4, rng.random((3, 7)) < 0.8
    found = {k: (float(s), float(w)) for k, (s, w) in detection(logits, replaced, real * 1.0).items()}
    chance = 1 / (1 + np.exp(-logits))
    nats = -np.where(replaced, np.log(chance), np.log(1 - chance))[real].sum()
    said, truth = (logits > 0)[real], replaced[real]
    expected = {
        "rtd_loss": (nats, real.sum()),
        "rtd_accuracy": ((said == truth).sum(), real.sum()),
        "rtd_precision": ((said & truth).sum(), said.sum()),
        "rtd_recall": ((said & truth).sum(), truth.sum()),
    }
    for name, pair in expected.items():
        np.testing.assert_allclose(found[name], pair, rtol=1e-6, err_msg=name)


def test_samples_follow_the_softmax_at_the_temperature_and_never_are_padding():
    logits = np.array([2.0, 0.0, -1.0, -1e9], np.float32)
    many = jnp.broadcast_to(logits, (7, 3001, 4))
    for temperature in (1.0, 0.5):
        drawn = np.asarray(objective(temperature=temperature).sample(many, jax.random.key(5))).ravel()
        chance = np.exp(logits[:3] / temperature) / np.exp(logits[:3] / temperature).sum()
        share = np.bincount(drawn, minlength=4) / drawn.size
        np.testing.assert_allclose(share[:3], chance, atol=4 * 0.5 / np.sqrt(drawn.size))
        assert share[3] == 0


def test_the_discriminators_loss_gives_the_generator_nothing_but_through_shared_embeddings():
    model, batch = build(CONFIG, objective().heads(CONFIG)), make_batch()
    only = lambda name: jit(
        jax.grad(lambda p: objective().loss(model.bind(p), batch, jax.random.key(0)).terms[name][0])
    )(params_of(model))
    rtd, mlm = only("rtd"), only("mlm")
    theirs = {"generator": rtd["generator"], "tokens": rtd["heads"]["tokens"]}
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(theirs))
    own = {name: value for name, value in mlm["discriminator"].items() if name != "embeddings"}
    own["replaced"] = mlm["heads"]["replaced"]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(own))
    for grads in (rtd, mlm):
        assert np.any(grads["discriminator"]["embeddings"]["tokens"]["table"])


def test_packed_and_unpacked_rows_give_the_same_losses():
    batch, model = make_batch(), build(CONFIG, objective().heads(CONFIG))
    real, starts = batch.segments_BT > 0, np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
    flat = lambda name: getattr(batch, name)[real][None]
    one = Batch(
        segments_BT=np.repeat([1, 2, 3], LENGTHS).astype(np.int32)[None],
        targets=TokenTargets(
            ids_BM=batch.targets.ids_BM.reshape(1, -1),
            weights_BM=batch.targets.weights_BM.reshape(1, -1),
            places_BM=(batch.targets.places_BM + starts[:, None]).astype(np.int32).reshape(1, -1),
        ),
        **{name: flat(name) for name in ("tokens_BT", "positions_BT", "types_BT")},
    )
    packed = objective(Fixed)
    packed.fakes_BM = FAKES.reshape(1, -1)
    params = params_of(model)
    run = lambda o, b: jit(lambda p: shares(o, model.bind(p), b)[1])(params)
    first, second = run(fixed(), batch), run(packed, one)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_evaluation_samples_alike_every_time_and_training_by_its_key():
    model, batch = build(CONFIG, objective().heads(CONFIG)), make_batch()
    params = params_of(model)
    run = jit(lambda p, key: objective().loss(model.bind(p), batch, key).terms["rtd"][0])
    still = jit(lambda p: objective().loss(model.bind(p), batch, None).terms["rtd"][0])
    assert still(params) == still(params)
    assert run(params, jax.random.key(1)) == run(params, jax.random.key(1)) != run(params, jax.random.key(2))


def test_weights_come_from_the_data_alone_and_equal_those_of_the_loss():
    batch, model = make_batch(), build(CONFIG, objective().heads(CONFIG))
    weights = objective().weights(batch)
    assert {name: float(w) for name, w in weights.items()} == {"mlm": 8.0, "rtd": 30.0}
    loss = jit(lambda p: objective().loss(model.bind(p), batch, None))(params_of(model))
    assert {name: float(w) for name, (_, w) in loss.terms.items()} == {"mlm": 8.0, "rtd": 30.0}
    np.testing.assert_allclose(loss.terms["rtd"][0], 50 * loss.measures["rtd_loss"][0], rtol=1e-6)


def test_messages_name_the_key_and_the_fix():
    bert = Bert.__new__(Bert)
    with pytest.raises(UserError, match=r"config\.model=Bert: .* discriminator together, such as Electra"):
        objective().check_model(bert, "config.model")
    objective().check_model(CONFIG, "config.model")
    with pytest.raises(UserError, match=r"config\.objective\.temperature=0\.0: must be above 0"):
        objective(temperature=0.0).validate("config.objective")
    chunked = objective()
    chunked.masked_lm = dataclasses.replace(chunked.masked_lm, chunk=8)
    with pytest.raises(UserError, match=r"masked_lm\.chunk=8.*Fix: --config\.objective\.masked_lm\.chunk=0"):
        chunked.validate("config.objective")


def test_loss_and_gradients_equal_the_two_torch_models_on_the_same_samples():
    pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    import torch

    from jaxlm.convert import electra, families
    from tools.parity.case import Case, present
    from tools.parity.cases.electra import Detected
    from tools.parity.kinds import Masked

    batch, model = make_batch(), build(CONFIG, objective().heads(CONFIG))
    kinds = {"discriminator": Detected(), "generator": Masked()}
    case = {n: Case(name=n, config=getattr(CONFIG, n), kind=kind) for n, kind in kinds.items()}
    hf = {name: one.reference(seed) for seed, (name, one) in enumerate(case.items())}
    hf["generator"].electra.embeddings = hf["discriminator"].electra.embeddings
    hf["generator"].generator_lm_head.weight = hf["discriminator"].electra.embeddings.word_embeddings.weight
    pair, params = electra.together(*((one.config, one.params(hf[name])) for name, one in case.items()))
    assert pair == CONFIG
    run = jax.value_and_grad(lambda p: shares(fixed(), model.bind(p), batch)[0])
    loss, grads = jit(run)(params)

    whole = lambda array: torch.tensor(np.asarray(array)).long()
    inputs = {"attention_mask": whole(batch.segments_BT), "token_type_ids": whole(batch.types_BT)}
    labels = np.full(batch.tokens_BT.shape, -100)
    original, replaced = (np.asarray(filled(batch, ids)) for ids in (batch.targets.ids_BM, FAKES))
    for b, m in zip(*np.nonzero(batch.targets.weights_BM), strict=True):
        labels[b, batch.targets.places_BM[b, m]] = batch.targets.ids_BM[b, m]
    mlm = hf["generator"](input_ids=whole(batch.tokens_BT), labels=whole(labels), **inputs).loss
    rtd = hf["discriminator"](input_ids=whole(replaced), labels=whole(original != replaced), **inputs).loss
    total = mlm + 50 * rtd
    total.backward()
    np.testing.assert_allclose(loss, total.detach().numpy(), rtol=1e-5)

    for name, (config, part) in electra.parts(CONFIG, grads).items():
        ours = families.export_params(part, config)
        theirs = present(case[name], dict(hf[name].named_parameters()))
        assert set(ours) == set(theirs)
        for key, parameter in theirs.items():
            if key.endswith("key.bias"):  # shifts all scores of a query alike: zero but for rounding
                continue
            expected = parameter.grad.numpy()
            assert np.abs(ours[key] - expected).max() <= 1e-3 * np.abs(expected).max(), key
