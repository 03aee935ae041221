"""What others add without an edit in jaxlm: an objective and a model that live here are trained, resumed and used."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.commands import fill_mask
from jaxlm.models.encoded import Encoded
from jaxlm.objectives.targets import TokenTargets
from tests.extensions import balanced, r_drop
from tests.runs import assert_same_run, killed_and_whole
from tests.views.programs import BERT, batch, perturbed, program, run, steps

RECIPE, STEPS = "tests/extensions/r_drop.py", 8


@pytest.fixture(scope="module")
def runs(train_command, tmp_path_factory):
    """(folder of a run that was killed and resumed, that of one that was not), with both extensions."""
    start = lambda workdir, **fault: train_command(workdir, recipe=RECIPE, **fault)
    return killed_and_whole(start, tmp_path_factory.mktemp("extensions"), at=5, resumed=" 3")


def test_killed_and_resumed_they_end_in_the_same_bits(runs):
    killed, whole = runs
    assert_same_run(whole, killed, STEPS)


def test_their_terms_are_in_the_loss_and_in_the_metrics(runs):
    lines = [json.loads(line) for line in (runs[1] / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if "train/loss" in line]
    held_out = [line for line in lines if "eval/loss" in line]
    assert len(train) == STEPS and len(held_out) == 2
    for line in train:
        assert line["train/r_drop"] > 0 and line["train/balance"] > 0.1
        rest = line["train/loss"] - 2 * line["train/r_drop"] - line["train/balance"]
        assert rest == pytest.approx(2 * line["train/mlm_loss"], rel=0.02), (
            "twice, but for the second dropout"
        )
        assert rest != 2 * line["train/mlm_loss"]
    for line in held_out:  # one pass, without dropout
        assert line["eval/balance"] > 0.1, "it is at its least where all experts are used alike"
        assert line["eval/loss"] == pytest.approx(line["eval/mlm_loss"] + line["eval/balance"], rel=1e-6)


def test_commands_use_the_result_when_the_recipe_is_named(runs, capsys):
    words = [f"--run={runs[1]}", f"--config={RECIPE}", "--top=3", "returns the [MASK]"]
    assert fill_mask.main(["fill_mask", *words]) == 0
    assert capsys.readouterr().out.count("%") == 3


class Given:
    """A model whose passes give these logits, one after the other."""

    def __init__(self, *logits_BMV):
        self.passes = iter(logits_BMV)

    def encode(self, batch: Batch, key: jax.Array, at_BM: None = None) -> Encoded:
        return Encoded(x_BTD=next(self.passes))

    def predict_tokens(self, x_BMD: jax.Array) -> jax.Array:
        return x_BMD


def test_r_drop_is_the_published_loss_with_its_gradient():
    """Equations 2 to 4 in float64; the gradients by hand."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 6, 9), scale=2.0)
    ids, weights = rng.integers(0, 9, (4, 6)), (rng.random((4, 6)) < 0.7).astype("f")
    zeros = np.zeros((4, 6), np.int32)
    asked = TokenTargets(ids_BM=ids.astype(np.int32), weights_BM=weights)
    rows = Batch(tokens_BT=zeros, segments_BT=zeros, positions_BT=zeros, targets=asked)
    objective = r_drop.get_config().objective

    def loss(a, b):
        terms = objective.loss(Given(a, b), rows, jax.random.key(0)).terms
        return sum(total / weight for total, weight in terms.values())

    ours, gradients = jax.value_and_grad(loss, (0, 1))(*map(jax.numpy.float32, (a, b)))
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    p, q, hot = softmax(a), softmax(b), np.eye(9)[ids]
    share = weights / weights.sum(dtype=np.float64)
    kl = lambda p, q: (p * np.log(p / q)).sum(-1)
    nats = -(hot * np.log(p)).sum(-1) - (hot * np.log(q)).sum(-1)
    alpha = objective.alpha
    np.testing.assert_allclose(ours, (share * (nats + alpha / 2 * (kl(p, q) + kl(q, p)))).sum(), rtol=1e-6)
    for got, (u, v) in zip(gradients, ((p, q), (q, p)), strict=True):
        of_kl = u * (np.log(u / v) - kl(u, v)[..., None]) + u - v
        expected = share[..., None] * (u - hot + alpha / 2 * of_kl)
        np.testing.assert_allclose(got, expected, atol=1e-7, rtol=1e-5)
    assert (
        set(objective.weights(rows)) == {"mlm", "r_drop"}
        and objective.weights(rows)["r_drop"] == weights.sum()
    )


MODEL = balanced.Balanced(**vars(BERT), experts=3, balance=0.5)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_the_models_own_term_is_a_mean_over_micro_batches(accumulate):
    """And not that of the whole batch: micro-batch a holds rows a, a + accumulate, ..."""
    made = program(dataclasses.replace(run("bert"), model=MODEL, accumulate=accumulate))
    params = perturbed(jax.tree.map(lambda leaf: np.ones(leaf.shape, "f") / 9, made.params))
    own = lambda params, rows: made.model.bind(params).encode(rows).terms["balance"]
    parts = [jax.tree.map(lambda x, a=a: x[a::accumulate], batch("bert")) for a in range(accumulate)]
    pairs = [jax.jit(own)(params, part) for part in parts]
    assert all(weight == MODEL.layers for _, weight in pairs), "every layer's is a mean of its own"
    _, _, (means,) = steps(made, params, 1, "bert")
    expected = np.mean([total / weight for total, weight in pairs])
    assert means["balance"] == pytest.approx(expected, rel=1e-5)
    assert means["loss"] == pytest.approx(means["mlm_loss"] + expected, rel=1e-5)
