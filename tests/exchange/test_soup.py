"""Claims: a soup is the mean of runs that began as the same weights, answers like a run, and refuses others."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxlm
from jaxlm.commands import soup as command
from jaxlm.errors import UserError
from jaxlm.exchange import soup
from jaxlm.models.paths import flatten
from tests.objectives import small
from tests.objectives.test_classification import rows, write


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs with two learning rates, and of one with another seed."""
    place = tmp_path_factory.mktemp("soups")
    table = write(place / "train.csv", rows(80))
    found = []
    for number, (peak, seed) in enumerate([(1e-2, 1), (3e-3, 1), (1e-2, 2)]):
        run = small.recipe("classification", table, place / "cache", tokens=120, steps=4)
        run.optimizer.schedule.peak, run.seed = peak, seed
        found.append(place / str(number))
        assert jaxlm.fit(run, workdir=found[-1]).code == 0
    return [str(one) for one in found]


def test_a_soup_is_the_mean_and_answers_like_a_run(runs, tmp_path, capsys):
    assert command.main(["soup", *runs[:2], f"--output={tmp_path / 'soup'}"]) == 0
    assert "the mean of 2 of 2 runs" in capsys.readouterr().out
    made, one, other = (jaxlm.load(where) for where in (tmp_path / "soup", *runs[:2]))
    for path, value in flatten(jax.device_get(made.params)).items():
        expected = (np.asarray(flatten(one.params)[path]) + np.asarray(flatten(other.params)[path])) / 2
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-8)
    assert made.predict(["a kind host"])[0]["predicted"] in ("bad", "good")
    with pytest.raises(UserError, match="is not empty"):
        command.main(["soup", *runs[:2], f"--output={tmp_path / 'soup'}"])


def test_a_greedy_soup_keeps_what_does_no_harm():
    """Best first: 1 (0.5 off), then with 0 (on the mark), then with 2, which harms."""
    trees = [{"w": np.float32(w)} for w in (4.0, 2.5, 9.0)]
    made, names = soup.greedy(trees, ["a", "b", "c"], lambda tree: abs(float(tree["w"]) - 3.25), print)
    assert names == ["a", "b"] or names == ["b", "a"]
    assert made["w"] == 3.25


def test_runs_that_did_not_begin_as_the_same_weights_are_refused(runs):
    with pytest.raises(UserError, match="differ in seed, from which .* are drawn"):
        soup.opened([runs[0], runs[2]], print)
    with pytest.raises(UserError, match="takes two runs or more"):
        soup.opened(runs[:1], print)
    with pytest.raises(UserError, match="is no run folder"):
        soup.opened(["hf:a", "hf:b"], print)
    first = soup.opened(runs[:2], print)[0]
    other = dataclasses.replace(first, run=dataclasses.replace(first.run, init_from="elsewhere"))
    with pytest.raises(UserError, match="differ in init_from"):
        soup._check(first, other)
