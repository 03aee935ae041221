"""Claims about `jaxlm evaluate --data`: files for whoever looks, a paired test, groups; several runs answer together."""

import dataclasses
import json
import xml.etree.ElementTree as xml

import numpy as np
import pytest
from scipy import optimize

import jaxlm
from jaxlm.commands import evaluate, predict
from jaxlm.errors import UserError
from jaxlm.infer import loaded
from jaxlm.tasks import calibration, ensemble, of, table
from jaxlm.tasks.classification import Classifying
from jaxlm.tasks.tagging import _votes
from tests.objectives import small
from tests.objectives.small import write

WORDS = {"good": ("fine", "lovely", "great", "kind"), "bad": ("awful", "poor", "sad", "rude")}
TEXTS = ["a lovely and kind host", "rude and awful", "a fine but sad place"]


def rows(number, *, wrong=0):
    """Words tell the label, of the first `wrong` rows the other one."""
    rng = np.random.default_rng(0)
    for i in range(number):
        label = ("good", "bad")[i % 2]
        said = ("bad", "good")[i % 2] if i < wrong else label
        words = " and ".join(rng.choice(WORDS[label], 4))
        yield {"text": f"the {words} place {i}", "label": said, "topic": "xy"[i % 3 == 0]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run folder with the checkpoints 10 and 20, table whose first 24 of 120 labels are wrong)."""
    place = tmp_path_factory.mktemp("evaluated")
    run = small.recipe(
        "classification", write(place / "train.csv", rows(160)), place / "cache", tokens=120, steps=20
    )
    run.checkpoint.keep.last = 2
    assert jaxlm.fit(run, workdir=place / "run").code == 0
    return place / "run", write(place / "test.csv", rows(120, wrong=24))


def ran(capsys, *words):
    assert evaluate.main(["evaluate", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_run_folder_holds_pictures_a_page_and_the_worst_items_first(trained, capsys):
    folder, data = trained
    ran(capsys, f"--run={folder}", f"--data={data}", "--errors=30")
    place = folder / "evaluation" / "test"
    worst = [json.loads(line) for line in (place / "errors.jsonl").read_text().splitlines()]
    assert len(worst) == 30 and [one["fault"] for one in worst] == sorted(
        (one["fault"] for one in worst), reverse=True
    )
    for one in worst[:24]:
        right = one["answer"]["probabilities"][one["right"]["label"]]
        assert one["answer"]["predicted"] != one["right"]["label"]
        assert one["fault"] == pytest.approx(-np.log(right), rel=1e-4) and "test.csv:" in one["where"]
    page = (place / "index.html").read_text()
    for name in ("confusion", "reliability"):
        root = xml.fromstring((place / f"{name}.svg").read_text())
        assert root.tag.endswith("svg") and page.count("<svg") == 2
    assert worst[0]["item"]["text"] in page
    assert json.loads((place / "metrics.json").read_text())["metrics"]["accuracy"]["value"] == 0.8
    before = {path.name for path in place.parent.iterdir()}
    ran(capsys, f"--run={folder}", f"--data={data}", "--folder=", "--step=10")
    assert {path.name for path in place.parent.iterdir()} == before


def test_two_checkpoints_are_compared_item_by_item_and_groups_are_measured(trained, capsys):
    folder, data = trained
    one, other = (ran(capsys, f"--run={folder}@{step}", f"--data={data}")["metrics"] for step in (10, 20))
    found = ran(
        capsys, f"--run={folder}@10", f"--against={folder}@20", f"--data={data}", "--by=topic", "--folder="
    )
    for name, value in found["differences"].items():
        assert (value["one"], value["other"]) == pytest.approx((one[name]["value"], other[name]["value"]))
        assert value["low"] <= value["value"] <= value["high"] and 0 < value["p"] <= 1
    assert {name: group["items"] for name, group in found["by"].items()} == {"x": 80, "y": 40}
    mean = sum(group["items"] * group["metrics"]["nll"] for group in found["by"].values()) / 120
    assert mean == pytest.approx(one["nll"]["value"])


def test_several_runs_answer_with_their_weighted_mean_or_vote(trained, capsys):
    folder, _ = trained
    models = [loaded.load(folder, step=step) for step in (10, 20)]
    tasks = [of.of(model, max_new_tokens=8) for model in models]
    items = [(text,) for text in TEXTS]
    one, other = (np.stack(task.ask(items)) for task in tasks)
    found = ensemble.Ensemble(tasks, [3.0, 1.0])
    np.testing.assert_allclose(found.ask(items), 0.75 * one + 0.25 * other, atol=1e-6)
    votes = ensemble.Ensemble([tasks[0], tasks[1], tasks[1]], vote=True).ask(items)
    expected = (np.eye(2)[one.argmax(axis=1)] + 2 * np.eye(2)[other.argmax(axis=1)]) / 3
    np.testing.assert_allclose(votes, expected, atol=1e-6)
    runs = [f"--run={folder}@10", f"--run={folder}@20"]
    assert predict.main(["predict", *runs, "--weights=3,1", *TEXTS]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shares = [list(line["probabilities"].values()) for line in lines]
    np.testing.assert_allclose(shares, 0.75 * one + 0.25 * other, atol=1e-5)


def test_a_temperature_is_that_of_the_least_likelihood_and_a_threshold_the_best_of_all():
    """Against scipy's search over 1 / T, and against every threshold that gives another answer."""
    rng = np.random.default_rng(0)
    for spread in (0.3, 1.0, 6.0):
        logits = rng.normal(size=(400, 5)) * spread
        right = (logits / 2.5 + rng.gumbel(size=(400, 5))).argmax(axis=1)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

        def nll(inverse, shares=shares, right=right):
            powers = shares**inverse
            return -np.log(powers[np.arange(400), right] / powers.sum(axis=1)).mean()

        best = optimize.minimize_scalar(nll, bounds=(0.05, 20.0), method="bounded", options={"xatol": 1e-9})
        found = calibration.temperature(right, shares.astype(np.float32))
        assert found == pytest.approx(1 / best.x, rel=1e-3)
        tempered = calibration.tempered(shares, found)
        np.testing.assert_allclose(tempered, shares ** (1 / found) / (shares ** (1 / found)).sum(1)[:, None])
        assert (tempered.argmax(axis=1) == shares.argmax(axis=1)).all()
    certain = np.eye(3, dtype=np.float32)
    assert calibration.temperature(np.arange(3), 0.7 * certain + 0.1) == pytest.approx(0.05, rel=1e-3)


def test_a_temperature_is_fitted_kept_with_its_checkpoint_and_used(trained, tmp_path, capsys):
    folder, data = trained
    best = jaxlm.load(folder).stored.step
    items = [(text,) for text in TEXTS]
    asked = lambda: np.stack(of.of(loaded.load(folder), max_new_tokens=8).ask(items))
    before, plain = asked(), ran(capsys, f"--run={folder}", f"--data={data}", "--folder=")["metrics"]
    try:
        found = ran(capsys, f"--run={folder}", f"--data={data}", "--calibrate")
        heat = found["calibration"]["temperature"]
        assert found["calibration"] | {"data": str(data), "items": 120, "step": best} == found["calibration"]
        assert abs(np.log(heat)) > 0.1, "it must be seen"
        assert found["before"] == plain
        assert found["metrics"]["nll"]["value"] < plain["nll"]["value"] - 0.01
        assert found["metrics"]["ece"]["value"] < plain["ece"]["value"]
        assert found["metrics"]["accuracy"] == plain["accuracy"]
        powers = before.astype(np.float64) ** (1 / heat)
        np.testing.assert_allclose(asked(), powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
        assert evaluate.main(["evaluate", f"--run={folder}", f"--data={data}", "--folder=", "--json"]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["decided"] == f"temperature {heat:.4g}, fitted on {data} (120 items)"
        assert "applied: temperature" in said.err
        assert json.loads(said.out)["metrics"] == found["metrics"]
        again = ran(capsys, f"--run={folder}", f"--data={data}", "--temperature=1", "--folder=")
        assert again["metrics"] == plain and "decided" not in again
        other = next(step for step in (10, 20) if step != best)
        assert "decided" not in ran(
            capsys, f"--run={folder}", f"--step={other}", f"--data={data}", "--folder="
        )
        (folder / "calibration.json").write_text("[]")
        with pytest.raises(UserError, match=r"calibration.json cannot be read .* --calibrate again"):
            of.of(loaded.load(folder), max_new_tokens=8)
    finally:
        (folder / "calibration.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature=0"], "--temperature=0.0: above 0"),
        (["--threshold=0.5"], "one of 2 labels: --threshold is of labels with probabilities"),
        (["--calibrate", "--temperature=2"], "--calibrate finds what --temperature and --threshold give"),
        (["--calibrate", "--by=topic"], "--calibrate is of one --run and one --data"),
    ],
)
def test_decisions_that_mean_nothing_are_refused(trained, words, message):
    folder, data = trained
    with pytest.raises(UserError, match=message):
        evaluate.main(["evaluate", f"--run={folder}", f"--data={data}", *words])


def test_votes_on_tags_leave_words_without_scores_out():
    scores = np.log(np.array([[0.2, 0.7, 0.1], [np.nan] * 3, [0.5, 0.3, 0.2]]))
    np.testing.assert_array_equal(_votes(scores), [[0, 1, 0], [np.nan] * 3, [1, 0, 0]])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run=RUN", "--weights=1"], r"--weights=1: 2 numbers, one a run"),
        (["--weights=1"], r"--weights and --vote are of several runs"),
        (["--by=topik"], r'test\.csv:2: no field "topik", and --by names one'),
    ],
)
def test_what_is_asked_of_the_wrong_number_of_runs_or_fields_is_refused(trained, words, message):
    folder, data = trained
    words = [word.replace("RUN", str(folder)) for word in words]
    with pytest.raises(UserError, match=message):
        evaluate.main(["evaluate", f"--run={folder}", f"--data={data}", *words])


@pytest.mark.parametrize(
    "word", ["--against=RUN", "--temperature=0", "--threshold=0", "--threshold=0.5", "--calibrate"]
)
def test_what_is_of_a_table_is_refused_of_a_split_whatever_its_value(trained, word):
    folder, _ = trained
    name = word.partition("=")[0]
    with pytest.raises(UserError, match=f"^{name} is of --data=FILE"):
        evaluate.main(["evaluate", f"--run={folder}", word.replace("RUN", str(folder))])


def test_runs_with_other_labels_are_neither_averaged_nor_compared(trained):
    model = loaded.load(trained[0])
    run = model.stored.run
    one = Classifying(model, run.data, run.objective)
    other = Classifying(model, run.data, dataclasses.replace(run.objective, labels=("bad", "fine")))
    for together in (table.check_same, lambda *tasks: ensemble.Ensemble(tasks)):
        with pytest.raises(UserError, match="different labels: fine, good"):
            together(one, other)
