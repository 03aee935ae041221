"""A classifier that learns from a larger one, as a user trains it: it begins with layers of it, resumes in the same bits,
is used without it, and takes no other."""

import shutil

import pytest

import jaxlm
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.commands import evaluate, export
from jaxlm.errors import UserError
from jaxlm.objectives.distil import Distil, SoftTargets
from jaxlm.objectives.distil_layers import HiddenStates
from tests.objectives import small
from tests.objectives.test_classification import rows, write
from tests.runs import assert_same_run, metrics

STEPS = 4


def larger(place):
    run = small.recipe("classification", place / "train.csv", place / "cache", tokens=120, steps=STEPS)
    run.model.layers = 2
    return run


def recipe(place, teacher="teacher"):
    run = small.recipe("classification", place / "train.csv", place / "cache", tokens=120, steps=STEPS)
    soft = SoftTargets(weight=0.5, temperature=2.0, direction="forward", positions="targets")
    states = HiddenStates(weight=1.0, loss="squares", layers="last", embeddings=False, teacher_width=32)
    run.objective = Distil(of=run.objective, hard=0.5, terms=(soft, states))
    run.teacher = run.init_from = str(place / teacher)
    run.init_layers, run.logging.every_steps = "last", 1
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("distilled")
    write(place / "train.csv", rows(160))
    assert jaxlm.fit(larger(place), workdir=place / "teacher").code == 0
    assert jaxlm.fit(recipe(place), workdir=place / "run").code == 0
    return place


def test_it_goes_on_from_a_checkpoint_in_the_same_bits(trained):
    shutil.copytree(trained / "run", trained / "again")
    shutil.rmtree(trained / "again" / "checkpoints" / str(STEPS))
    assert jaxlm.fit(recipe(trained), workdir=trained / "again").code == 0
    assert_same_run(trained / "run", trained / "again", STEPS)
    line = next(one for one in metrics(trained / "run") if "train/loss" in one)
    assert line["train/classes_soft"] > 0 and line["train/states"] > 0
    log = (trained / "run" / "run.log").read_text()
    assert "layers 1 of 2" in log and "teacher" in log


def test_its_checkpoint_names_the_teacher_without_its_weights_and_takes_no_other(trained):
    checkpoints = Checkpoints(trained / "run" / "checkpoints", None)
    assert checkpoints.meta(STEPS)["teacher"].keys() == {"source", "fingerprint"}
    assert "teacher" not in {part for name in checkpoints.arrays(STEPS) for part in name.split("/")}
    shutil.copytree(trained / "run", trained / "other")
    shutil.rmtree(trained / "other" / "checkpoints" / str(STEPS))
    wrong = recipe(trained)
    wrong.teacher = str(trained / "run2")
    shutil.copytree(trained / "teacher", trained / "run2")
    shutil.rmtree(trained / "run2" / "checkpoints" / str(STEPS))
    with pytest.raises(UserError, match=r"learnt from the teacher .*is another .*--config.teacher=DIR"):
        jaxlm.fit(wrong, workdir=trained / "other")


def test_it_is_used_where_its_teacher_is_no_more(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "alone")
    (trained / "teacher").rename(trained / "gone")
    try:
        (one,) = jaxlm.load(tmp_path / "alone").predict(["a lovely and kind host"])
        assert one["predicted"] in ("bad", "good")
        arguments = ["evaluate", f"--run={tmp_path / 'alone'}", f"--data={trained / 'train.csv'}"]
        assert evaluate.main(arguments) == 0
        assert "accuracy" in capsys.readouterr().out
        assert export.main(["export", str(tmp_path / "alone"), str(tmp_path / "hf")]) == 0
        assert (tmp_path / "hf" / "model.safetensors").exists()
    finally:
        (trained / "gone").rename(trained / "teacher")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run.tokenizer.__setattr__("lowercase", False), "was trained with another tokenizer"),
        (lambda run: run.objective.of.__setattr__("labels", ("good", "bad")), "labels=('bad', 'good')"),
        (lambda run: run.__setattr__("teacher", ""), "--config.teacher=hf:DIR"),
        (lambda run: run.__setattr__("objective", run.objective.of), "learns from no teacher"),
        (lambda run: run.__setattr__("init_layers", "0,2"), "config.init_layers=0,2"),
        (lambda run: run.__setattr__("init_layers", ""), "--config.init_layers (first, last, spread"),
        (lambda run: run.model.__setattr__("vocab_size", 128), "--config.model.vocab_size=120"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_does(trained, tmp_path, change, said):
    run = recipe(trained)
    change(run)
    if "tokenizer" in said:
        run.init_from = run.init_layers = ""
    with pytest.raises(UserError) as caught:
        jaxlm.fit(run, workdir=tmp_path / "run")
    assert said in str(caught.value)
