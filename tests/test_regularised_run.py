"""A classifier with adversaries, noise, weights of classes, a pull to its start, layers that join one by one and an
averaged tail, as a user trains it: it resumes in the same bits, says its terms, and answers."""

import shutil

import pytest

import jaxlm
from jaxlm.commands import evaluate
from jaxlm.config import folder as runs
from jaxlm.objectives.adversarial import FreeLB
from jaxlm.objectives.class_loss import ClassLoss
from jaxlm.objectives.noise import Neftune
from jaxlm.objectives.r_drop import RDrop
from jaxlm.optim.around import GradualUnfreezing, LayerDecay, TowardsStart
from tests.objectives import small
from tests.objectives.test_classification import rows, write
from tests.runs import assert_same_run, metrics

STEPS = 8


def recipe(place):
    run = small.recipe("classification", place / "train.csv", place / "cache", tokens=120, steps=STEPS)
    weighted = ClassLoss(
        of=run.objective, label_smoothing=0.1, gamma=0.0, class_weights="inverse", prior=0.0, counts=()
    )
    inner = RDrop(of=Neftune(of=weighted, alpha=1.0), alpha=0.5)
    run.objective = FreeLB(of=inner, steps=2, rate=0.1, radius=0.0, start=0.1)
    run.optimizer.weight_decay = 0.0
    near = TowardsStart(of=run.optimizer, pull=0.01, head_decay=0.01)
    run.optimizer = GradualUnfreezing(of=LayerDecay(of=near, decay=0.9, first=1), every="2 steps")
    run.logging.every_steps, run.ema_decay, run.average_from = 2, 0.0, "25%"
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("regularised")
    write(
        place / "train.csv",
        list(rows(160)) + [{"id": i, "text": f"a kind host {i}", "label": "good"} for i in range(40)],
    )
    outcome = jaxlm.fit(recipe(place), workdir=place / "run")
    assert outcome.code == 0
    return place, outcome


def test_it_goes_on_from_a_checkpoint_in_the_same_bits(trained):
    place, _ = trained
    shutil.copytree(place / "run", place / "again")
    shutil.rmtree(place / "again" / "checkpoints" / str(STEPS))
    assert jaxlm.fit(recipe(place), workdir=place / "again").code == 0
    assert "resumed from the checkpoint of step 4" in (place / "again" / "run.log").read_text()
    assert_same_run(place / "run", place / "again", STEPS)


def test_its_terms_are_measured_and_its_counts_kept(trained):
    place, _ = trained
    line = next(one for one in metrics(place / "run") if "train/loss" in one)
    assert line["train/classes_apart"] > 0
    saved = runs.saved_run(runs.RunFolder(place / "run")).objective.of.of.of
    assert saved.of.labels == ("bad", "good") and saved.counts[1] > saved.counts[0] > 0


def test_it_answers_and_is_measured_like_any_classifier(trained, capsys):
    place, _ = trained
    (one,) = jaxlm.load(place / "run").predict(["a lovely and kind host"])
    assert one["predicted"] in ("bad", "good")
    assert evaluate.main(["evaluate", f"--run={place / 'run'}", f"--data={place / 'train.csv'}"]) == 0
    assert "accuracy" in capsys.readouterr().out
