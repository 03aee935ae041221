"""Sensitivity against float64 numpy, and what a budget buys against all that it could."""

import dataclasses
import itertools

import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.compress.calibration import Text
from jaxlm.compress.mixed import Choice, MixedPrecision, cheapest, lost
from jaxlm.compress.rounding import Nearest, Quantise, size_of
from jaxlm.errors import UserError
from jaxlm.models.paths import flatten
from jaxlm.models.quantised import Quantised
from jaxlm.views.beside import MATRICES
from jaxlm.views.rounding import Rounding
from tests.compress import models


def rule(kind, weights=MATRICES) -> Rounding:
    return Rounding(weights=weights, kind=kind, group=0, low=False, activations="float")


TABLE = ".*tokens/table"
STEP = MixedPrecision(
    rules=(rule("int4"), rule("int8"), rule("int4", TABLE), rule("int8", TABLE)), share=0.2, finder=Nearest()
)


@pytest.fixture(scope="module", params=["decoder", "encoder"])
def model(request, tmp_path_factory):
    return models.opened(getattr(models, request.param)(tmp_path_factory.mktemp("mixed") / request.param))


@pytest.fixture(scope="module")
def text(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("mixed") / "text.txt"
    path.write_text("\n".join(models.TEXTS * 6))
    return Text(file=str(path), rows=4, length=16).read(model)


def outputs(model, text) -> np.ndarray:
    module = model.model.bind(model.params)
    x_BTD = module.encode(Batch.full(text.tokens_RT), None).x_BTD
    return np.asarray(
        module.predict_tokens(x_BTD) if model.model.config.kind == "decoder" else x_BTD, np.float64
    )


def test_what_answers_lose_is_that_of_float64(model, text):
    other = Quantise(rules=(rule("int4"),), finder=Nearest()).apply(model, None, print)
    before, after = outputs(model, text), outputs(other, text)
    if model.model.config.kind == "decoder":
        log = lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))
        expected = (np.exp(log(before)) * (log(before) - log(after))).sum(-1).mean()
    else:
        expected = np.square(after - before).sum() / np.square(before).sum()
    assert expected > 1e-4
    assert lost(model, other, text) == pytest.approx(expected, rel=1e-3)
    assert lost(model, model, text) == pytest.approx(0, abs=1e-6)


def test_what_is_written_keeps_the_budget_and_loses_less_than_the_smallest(model, text):
    said = []
    made = STEP.apply(model, text, said.append)
    values = {path: leaf for path, leaf in flatten(made.params).items() if isinstance(leaf, Quantised)}
    kinds = {str(leaf.codes.dtype) for leaf in values.values()}
    assert kinds == {"int4", "int8"}, "a budget between the two buys both"
    whole = sum(4 * np.prod(leaf.shape) for leaf in values.values())
    assert sum(map(size_of, values.values())) <= 0.2 * whole
    assert len(said) == len(values) + 1 and any("tokens/table" in line for line in said)
    smallest = Quantise(rules=(rule("int4"), rule("int4", TABLE)), finder=Nearest())
    assert lost(model, made, text) < lost(model, smallest.apply(model, None, print), text)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_a_budget_buys_nearly_the_best(seed, share):
    rng = np.random.default_rng(seed)
    choices = {}
    for number in range(6):
        size, hurt = int(rng.integers(400, 2000)), float(rng.exponential())
        forms = [(1, 0.0), (4, hurt / 50), (8, hurt)]
        choices[f"w{number}"] = [Choice(None, size // part, loss) for part, loss in forms]
    budget = share * sum(one[0].bytes for one in choices.values())
    fitting = [pick for pick in itertools.product(*choices.values()) if sum(c.bytes for c in pick) <= budget]
    best = min(sum(c.lost for c in pick) for pick in fitting)
    found = cheapest(choices, share).values()
    assert sum(c.bytes for c in found) <= budget
    worst = sum(one[-1].lost for one in choices.values())
    assert sum(c.lost for c in found) - best <= 0.02 * (worst - best)


def test_a_budget_below_the_smallest_is_refused(model, text):
    with pytest.raises(UserError, match="and the smallest forms take .* Fix: a larger share"):
        dataclasses.replace(STEP, share=0.1).apply(model, text, print)
    with pytest.raises(UserError, match=r"config.steps\[0\].share=2: must be above 0"):
        dataclasses.replace(STEP, share=2).validate("config.steps[0]")
