"""Claim: a page shows what the run folder holds, needs nothing from outside, and breaks at no text."""

import fcntl
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

import jaxlm
from jaxlm.commands import report
from jaxlm.config import folder
from jaxlm.errors import UserError
from jaxlm.report import told
from jaxlm.report.page import page
from tests.report.pages import Element, curves, parsed

ROOT = pathlib.Path(__file__).parents[2]
EVIL = "<script>alert('1')</script> & \"</style>"


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """(the Run, its folder) after 12 steps in two stages, stopped and continued."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXLM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        made = jaxlm.load_recipe(ROOT / "tests/recipes/tiny.py")
        made.data.corpus, made.steps, made.fill = corpus, 12, (f"{EVIL} [MASK]",)
        made.evaluation.every_steps, made.checkpoint.every_steps, made.logging.every_steps = 4, 4, 3
        where = tmp_path_factory.mktemp("report") / "run"
        made.time_limit_minutes = 1e-9
        assert jaxlm.fit(made, workdir=where).code == 75
        made.time_limit_minutes = 0.0
        assert jaxlm.fit(made, workdir=where).code == 0
        yield made, where


@pytest.fixture
def copy(run, tmp_path):
    """A folder that may be changed."""
    return pathlib.Path(shutil.copytree(run[1], tmp_path / "run"))


def shown(*folders: pathlib.Path) -> Element:
    return parsed(page(told.several([str(one) for one in folders])))


def lines(where: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]


def change(path: pathlib.Path, key: str, value) -> None:
    """Sets a value of a JSON file by its dotted path."""
    whole = json.loads(path.read_text())
    *parents, last = key.split(".")
    node = whole
    for name in parents:
        node = node[name]
    node[last] = value
    path.write_text(json.dumps(whole))


def test_a_run_keeps_its_first_rows_and_where_it_was_started(run):
    made, where = run
    batch = jaxlm.batch_at(made, 1)[""]
    first = json.loads((where / "rows/stage-0.json").read_text())[""][0]
    tokens = jaxlm.load(where).tokenizer
    seen = [token for item in first["items"] for token in item["tokens"]]
    assert seen == [tokens.token(id) for id in batch.tokens_BT[0].tolist()][: len(seen)] and len(seen) > 20
    assert (where / "rows/stage-1.json").exists()
    starts = [json.loads(line) for line in (where / "environment.jsonl").read_text().splitlines()]
    assert [start["step"] for start in starts] == [0, 1]
    assert starts[0]["versions"]["jax"] == __import__("jax").__version__


def test_a_page_needs_nothing_from_outside_and_no_script_to_draw(run):
    text = page(told.several([str(run[1])]))
    assert "http" not in text.replace("http-equiv", "") and "url(" not in text and "@import" not in text
    whole = parsed(text)
    for name in ("src", "href", "xlink:href", "action", "data"):
        assert not [one for one in _every(whole) if name in one.attributes], name
    drawn = [path.attributes["d"] for path in whole.all("path", "train")]
    assert drawn and all(d and d.startswith("M") for d in drawn)


def _every(one: Element) -> list[Element]:
    below = [child for child in one.children if isinstance(child, Element)]
    return [found for child in below for found in (child, *_every(child))]


def test_curves_are_the_values_of_metrics_jsonl(run):
    where = run[1]
    found = curves(shown(where))
    for title, metric in {
        "Loss": "train/loss",
        "Masked-LM accuracy": "eval/mlm_accuracy",
        "Learning rate": "optim/learning_rate",
        "Gradient norm": "optim/grad_norm",
        "Throughput": "throughput/useful_tokens_per_second",
        "time/step_s": "time/step_s",
    }.items():
        measured = [(line["step"], line[metric]) for line in lines(where) if metric in line]
        steps, values = found[title]["run", metric]
        assert list(zip(steps, values, strict=True)) == measured and measured
    known = {metric for line in lines(where) for metric in line} - {"step"}
    assert {metric for series in found.values() for _, metric in series} == known


def test_a_line_is_drawn_where_its_values_belong(run):
    figure = shown(run[1]).all("figure")[0]
    data = json.loads(figure.all("script")[0].children[0])
    steps, values = next((one["x"], one["y"]) for one in data["series"] if one["kind"] == "held-out")
    (low, high), last = data["linear"], data["x"][1]
    expected = [
        (1000 * x / last, 1000 * (high - y) / (high - low)) for x, y in zip(steps, values, strict=True)
    ]
    d = figure.all("div", "linear")[0].all("path", "heldout")[0].attributes["d"]
    drawn = [tuple(map(float, point.split())) for point in d[1:].split("L")]
    assert drawn == [pytest.approx(point, abs=0.06) for point in expected]


def test_the_head_says_how_it_ended(run):
    made, where = run
    facts = dict(row for row in shown(where).section("At a glance").table())
    assert facts["state"] == "done"
    assert facts["steps"] == "12 of 12, 8 rows of 32, then 48 tokens each"
    meta = jaxlm.load(where, step=12).stored.meta
    assert facts["attested stream"] == f"{meta['stream']['hash']} (steps 1 to 12)"
    assert facts["isolation of documents"] == "not checked"  # see below; the recipe leaves it out
    losses = {line["step"]: line["eval/loss"] for line in lines(where) if "eval/loss" in line}
    best = min(losses, key=losses.get)
    assert facts["best step"] == f"{best}, eval/loss {losses[best]:.4f}"
    log = (where / "run.log").read_text()
    unigram = facts["held-out loss"].rpartition(" ")[2]
    assert f"unigram cross-entropy of the same tokens {unigram} nats" in log
    assert facts["time"].endswith("in 2 starts")
    assert [told.read(where).stages(), [first for first, _ in made.stage_steps()]] == [[0, 8], [0, 8]]
    marks = [one.text for one in shown(where).all("span", "mark")]
    assert marks == ["resumed", "stage 2: 48 tokens"]


def test_the_head_says_whether_isolation_was_shown(copy):
    said = lambda: dict(shown(copy).section("At a glance").table())["isolation of documents"]
    line = {"stage": 0, "task": "", "kernels": ["xla"], "dtype": "float32", "forward": 0.0, "gradient": 2e-7}
    stages = [line | {"passed": False}, line | {"passed": True}, line | {"stage": 1, "passed": True}]
    (copy / "isolation.jsonl").write_text("".join(json.dumps(one) + "\n" for one in stages))
    assert said() == "shown; packed = alone within 2e-07 (float32, xla)"
    (copy / "isolation.jsonl").write_text(json.dumps(stages[0]) + "\n" + json.dumps(stages[2]) + "\n")
    assert said().startswith("NOT shown: documents see each other")


def test_samples_and_rows_are_shown_as_they_are(run):
    where = run[1]
    whole = shown(where)
    samples = whole.section("Samples")
    assert [one.text for one in samples.all("dt")] == [f"{EVIL} [MASK]"]
    assert [row[0] for row in samples.table()] == ["4", "8", "12"]
    first = json.loads((where / "rows/stage-0.json").read_text())[""][0]
    row = whole.section("Rows").all("div", "row")[0]
    assert row.all("p")[0].text == first["head"]
    asked = [(one.children[0], one.children[1].text) for one in row.all("i", "asked")]
    wanted = [
        pair
        for i in first["items"]
        for pair in zip(i["tokens"], i["targets"], strict=True)
        if pair[1] is not None
    ]
    assert asked == wanted and "[MASK]" in dict(wanted)
    assert len(row.all("span", "item")) == len(first["items"])


def test_text_from_elsewhere_is_text_on_the_page(copy):
    change(copy / "config.json", "config.data.corpus", EVIL)
    change(copy / "config.json", "code.recipe", f"/x/mine.py:hf:a/{EVIL}")
    rows = json.loads((copy / "rows/stage-0.json").read_text())
    rows[EVIL] = rows.pop("")
    rows[EVIL][0]["items"][0] |= {"tokens": [EVIL], "targets": [EVIL], "source": [EVIL], "note": EVIL}
    (copy / "rows/stage-0.json").write_text(json.dumps(rows))
    (copy / "samples/step-4.txt").write_text(
        f"{EVIL} [MASK]\n    {EVIL} 3.0%  b 1.2.3%\n    {EVIL} 3.0%  b 1.0%\n"
    )
    with (copy / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 13, f"eval/{EVIL}": 1.0}) + "\n")
    with (copy / "environment.jsonl").open("a") as file:
        file.write(json.dumps({"command": EVIL, "overrides": {EVIL: EVIL}, "variables": {EVIL: EVIL}}) + "\n")
    evil = copy.rename(copy.parent / "<script>alert(1)<")
    whole = shown(evil)
    assert len(whole.all("script")) == 1 + len(whole.all("figure")) and len(whole.all("style")) == 1
    assert whole.all("h1")[0].text.startswith("<script>alert(1)<")
    assert whole.text.count(EVIL) > 10 and f"mine.py:hf:a/{EVIL}" in whole.text
    for script in whole.all("script"):
        assert len(script.children) == 1
        assert "alert" not in script.children[0] or json.loads(script.children[0])


def test_the_baseline_of_an_earlier_end_gives_way(copy):
    log = (copy / "run.log").read_text()
    said = "held-out masked-LM loss 5.0000 nats; unigram cross-entropy of the same tokens {} nats"
    line = lambda text: f"2026-01-01 10:00:00 {text}\n"
    again = [line("jaxlm: again"), line("the run is complete at step 12: all its steps are trained")]
    (copy / "run.log").write_text(log + "".join(again))
    assert len(told.read(copy).log.baselines) == 1 and len(told.read(copy).log.started) == 3
    more = [
        line("jaxlm: more"),
        line(said.format("6.25")),
        line(said.replace("loss", "loss of task b").format("7.5")),
    ]
    (copy / "run.log").write_text(log + "".join(more))
    assert [one.unigram for one in told.read(copy).log.baselines] == [6.25, 7.5]
    held_out = dict(shown(copy).section("At a glance").table())["held-out loss"]
    assert held_out == "5.0000 nats, unigram baseline 6.2500; 5.0000 nats of task b, unigram baseline 7.5000"


def test_what_differs_between_runs_stands_side_by_side(run, copy):
    change(copy / "config.json", "config.optimizer.schedule.peak", 0.5)
    change(copy / "config.json", "config.objective.unit.type", "jaxlm.objectives.units.Words")
    change(copy / "config.json", "code.files", {"mine.py": "ab" * 32})
    whole = shown(run[1], copy)
    names = [told.name for told in told.several([str(run[1]), str(copy)])]
    assert whole.section("Settings that differ").table() == [
        ["setting", *names],
        ["objective.unit", "Tokens", "Words"],
        ["optimizer.schedule.peak", "0.003", "0.5"],
        ["file mine.py", "–", f"SHA-256 {'ab' * 6}"],
    ]
    assert {name for name, _ in curves(whole)["Loss"]} == set(names)
    same = shown(run[1], pathlib.Path(shutil.copytree(run[1], copy.parent / "twin"))).section("Settings")
    assert "All runs have the same settings." in same.text


def test_runs_of_one_name_are_told_apart_and_one_twice_is_one(run, copy, tmp_path):
    other = shutil.copytree(copy, tmp_path / "b" / "run")
    names = [one.name for one in told.several([str(copy), str(other), f"{copy}/"])]
    assert names == [f"{tmp_path.name}/run", "b/run"]


def test_a_run_in_progress_killed_or_diverged_is_shown_as_it_is(copy):
    state = lambda: dict(shown(copy).section("At a glance").table())["state"]
    change(copy / "config.json", "config.steps", 100)
    assert state() == "stopped at step 12 of 100"
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "train/loss": null}\n{"step": 18, "tra')
    assert state() == "stopped at step 15 of 100"
    (copy / "crash").mkdir()
    (copy / "crash/non_finite-step-16.json").write_text("{}")
    assert state() == "diverged at step 16 of 100"
    assert curves(shown(copy))["Loss"]["run", "train/loss"][1][-1] is None
    with (copy / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert state() == "running, step 15 of 100"
    shutil.rmtree(copy / "checkpoints")
    for name in ("run.log", "environment.jsonl", "isolation.jsonl", "rows/stage-0.json", "rows/stage-1.json"):
        (copy / name).write_text("{torn")
    for path in (copy / "samples").iterdir():
        path.unlink()
    text = shown(copy).text
    assert "There are no samples" in text and "There are no rows" in text and "not checked" in text


@pytest.mark.parametrize("where", ["1/run", "2/gpt2/run", "2/t5/run"])
def test_runs_of_earlier_formats_are_shown(tmp_path, where):
    number, _, rest = where.partition("/")
    if number == "2":
        with tarfile.open(ROOT / f"tests/golden/2/{rest.partition('/')[0]}.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        where = tmp_path / rest
    else:
        where = ROOT / "tests/golden/1/run"
    found = curves(shown(where))["Loss"]["run", "train/loss"]
    assert found[1] == [line["train/loss"] for line in lines(where)]


def test_what_is_no_run_is_refused_with_a_fix(run, copy, tmp_path):
    def refused(*words) -> str:
        with pytest.raises(UserError) as error:
            report.main(["jaxlm report", *map(str, words)])
        return str(error.value)

    assert "there is no such folder. Fix: " in refused(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "no run folder: it has no config.json of a run. Fix: name the --workdir" in refused(
        tmp_path / "empty"
    )
    assert f"Fix: jaxlm report {copy}." in refused(copy.parent)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text("{}")
    assert "is a model folder, and no run folder" in refused(tmp_path / "model")
    (copy / "metrics.jsonl").write_text("")
    said = refused(run[1], copy)
    assert "the first comes after 3 steps" in said and f"jaxlm train --workdir={copy}" in said
    change(copy / "config.json", "format", 9)
    assert "has format 9; this version of jaxlm reads 1" in refused(copy)
    change(copy / "config.json", "format", folder._FORMAT)
    change(copy / "config.json", "config", {"steps": 3})
    assert "no run folder" in refused(copy)
    assert "RUN" in refused()
    assert "cannot be written" in refused(run[1], f"--output={tmp_path}/absent/report.html")


def test_the_command_writes_the_page_without_importing_jax(run, tmp_path):
    program = (
        "import sys; from jaxlm.commands import report; code = report.main(sys.argv); "
        "sys.exit(code or ('jax' in sys.modules or 'numpy' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run[1])], cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("report.html: run, ")
    assert parsed((tmp_path / "report.html").read_text()).all("h1")[0].text == "run done"
