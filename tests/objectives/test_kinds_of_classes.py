"""Claims about labels of many kinds: learned from a table, packed as if alone, answered as trained, measured, refused."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import jaxlm
from jaxlm.batch import stacked
from jaxlm.commands import evaluate, predict
from jaxlm.data.corpus.columns import Label, Labels, Number
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.spans import Spans
from jaxlm.data.corpus.steps import MarkSpans
from jaxlm.data.rows import packing
from jaxlm.data.rows.items import Asked
from jaxlm.data.rows.rows import Rows
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.crf import CrfTagging
from jaxlm.objectives.multi_label import MultiLabel
from jaxlm.objectives.multiple_choice import MultipleChoice
from jaxlm.objectives.noise import Neftune
from jaxlm.objectives.regression import Regression
from jaxlm.objectives.relations import Relations
from jaxlm.objectives.similarity import Similarity
from jaxlm.tasks.evaluator import TaskMetrics
from tests.data.test_spans import opened, run
from tests.exchange.folders import CONFIG
from tests.objectives import small
from tests.objectives.test_packed import DECODER, ENCODER_DECODER

WORDS = ("fine", "lovely", "great", "kind", "awful", "poor", "sad", "rude")
MARKS = MarkSpans(labels=("head", "tail"), markers=("[E1]", "[/E1]", "[E2]", "[/E2]"))
COLUMNS = (
    Label(field="label"),
    Labels(field="labels", separator="|"),
    Number(field="score"),
    Spans(field="head", text="text"),
    Spans(field="tail", text="text"),
)


def record(i):
    """Of the words a and b the first is one of four good ones or not, the second alike or not."""
    a, b = WORDS[i % 8], WORDS[i * 5 % 8]
    text = f"the {a} host and the {b} guest {'of the place ' * (i % 3)}"
    put = lambda word, at: {"start": at, "end": at + len(word), "text": word}
    return {
        "text": text,
        "other": f"a {b} place",
        "third": f"the {a} garden",
        "label": ("bad", "good")[i % 8 < 4],
        "labels": "|".join(n for n, yes in (("bad", i % 8 > 3), ("odd", i % 2), ("zero", not i % 4)) if yes),
        "score": 5.0 * ((i % 8 < 4) == (i * 5 % 8 < 4)),
        "head": put(a, text.index(a)),
        "tail": put(b, text.index(b, text.index("and"))),
    }


RECORDS = [record(i) for i in range(96)]
PLAIN = {"column": "label", "max_tokens": 14, "items_per_row": 4}
LABELLED = PLAIN | {"labels": ("bad", "good")}
KINDS = {
    "classes": Classification(**LABELLED, texts=1, pooling="own"),
    "classes of a mean": Classification(**LABELLED, texts=1, pooling="mean"),
    "label sets": MultiLabel(
        **LABELLED | {"column": "labels", "labels": ("bad", "odd", "zero")}, texts=1, pooling="own"
    ),
    "numbers of pairs": Regression(**PLAIN | {"column": "score", "max_tokens": 20}, texts=2, pooling="own"),
    "similarity": Similarity(**PLAIN | {"column": "score"}, pooling="mean", lowest=0.0, highest=5.0),
    "choices": MultipleChoice(**LABELLED, choices=2),
    "relations": Relations(**LABELLED | {"max_tokens": 40}, parts=("head", "tail")),
    "chained tags": CrfTagging(**LABELLED | {"column": "head", "labels": ("head",)}, scheme="bio"),
}
FIELDS = {
    "numbers of pairs": ("text", "other"),
    "similarity": ("text", "other"),
    "choices": ("text", "other", "third"),
}
MODELS = {"encoder": CONFIG, "decoder": DECODER, "encoder_decoder": ENCODER_DECODER}


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Of some fields: the prepared training split and its vocabulary, made once."""
    made = {}

    def of_fields(fields, steps=()):
        if (fields, bool(steps)) not in made:
            columns = COLUMNS[:3] if len(fields) > 1 else COLUMNS
            how = {"text_fields": fields} if len(fields) > 1 else {}
            place = tmp_path_factory.mktemp("shards")
            made[fields, bool(steps)] = run(place, RECORDS, columns, steps=steps, **how)
        found = made[fields, bool(steps)]
        return opened(found), found.tokenizer.vocabulary

    return of_fields


def batch(objective, train, vocabulary, method, length):
    """All items of the split, in rows of so many tokens."""
    asked = Asked(length=length, seed=0, cache=None, train=True)
    items = objective.items(train, vocabulary, asked)
    most = objective.max_items(length) if method == "best_fit" else 1
    plan = packing.plan(items, row_length=length, method=method, max_items=most, seed=0, cache=None)
    rows, rng = Rows(items, plan, vocabulary, seed=0, shuffle=False), np.random.default_rng(0)
    found = [objective.prepare(rows[n], vocabulary, rng, train=True) for n in range(len(rows))]
    found.append(objective.prepare(rows.empty(), vocabulary, rng, train=False))
    assert plan.max_items == most and found[0].targets.show is not None
    return stacked(found)


@pytest.mark.parametrize(
    ("kind", "model"),
    [(kind, model) for kind, objective in KINDS.items() for model in objective.takes if model == "encoder" or "classes" in kind or kind == "choices"],
)  # fmt: skip
def test_items_of_packed_rows_are_judged_as_if_alone(kind, model, shards):
    """Sum of the loss, and its gradient, over all items: four a row against one."""
    objective, config = KINDS[kind], MODELS[model]
    fields = FIELDS.get(kind, ("text",))
    train, vocabulary = shards(fields, (MARKS,) if kind == "relations" else ())
    config = dataclasses.replace(config, vocab_size=150)
    if model != "encoder_decoder":
        config = dataclasses.replace(config, max_positions=200)
    objective.check_model(config, "model")
    built = build(config, objective.heads(config))
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32), built.shapes)

    @jax.jit
    def loss(params, batch):
        def total(params):
            (found,) = objective.loss(built.bind(params), batch, None).terms.values()
            return found

        return jax.value_and_grad(total, has_aux=True)(params)

    packed, alone = (
        loss(params, batch(objective, train, vocabulary, *how)) for how in (("best_fit", 180), ("none", 66))
    )
    assert packed[0][1] == alone[0][1] > 0
    np.testing.assert_allclose(packed[0][0], alone[0][0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(packed[1]), jax.tree.leaves(alone[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(b).max()))


RECIPES = {  # the recipe; a metric of tables and its least value; of it one of held-out rows, and its factor
    "similarity": ("similarity", ("pearson", 0.9), ("mse", "number_loss", 25.0)),
    "label sets": ("multi_label", ("micro_f1", 0.6), ("micro_f1", "classes_f1", 1.0)),
    "choices": ("multiple_choice", ("accuracy", 0.6), ("nll", "choice_loss", 1.0)),
    "relations": ("relation_extraction", ("accuracy", 0.5), ("accuracy", "relations_accuracy", 1.0)),
    "chained tags": ("tagging", ("f1", 0.9), ()),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_what_is_trained_on_a_table_answers_new_rows_and_is_measured_on_them(kind, tmp_path, capsys):
    """What the task measures on held-out records is what training measured on the rows that they make."""
    name, (metric, least), same = RECIPES[kind]
    table = tmp_path / "train.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    run = small.recipe(name, table, tmp_path / "cache", tokens=150, steps=30)
    run.model.max_positions, run.stages = 64, (dataclasses.replace(run.stages[0], length=64),)
    run.objective = KINDS[kind]
    if run.objective.__class__ not in (Similarity,):
        run.objective = dataclasses.replace(run.objective, labels=())
    if kind in FIELDS:
        run.data.text_fields = FIELDS[kind]
    if kind == "chained tags":
        run.data.text_field, run.data.columns = "text", (Spans(field="head", text="text"),)
    run.evaluators = (TaskMetrics(),)
    outcome = jaxlm.fit(run, workdir=tmp_path / "run")
    assert outcome.code == 0
    if same:
        mine, theirs, times = same
        assert outcome.metrics[f"eval/{mine}"] == pytest.approx(
            times * outcome.metrics[f"eval/{theirs}"], rel=1e-4
        )
    assert evaluate.main(["evaluate", f"--run={tmp_path / 'run'}", f"--data={table}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["items"] == len(RECORDS) and found["metrics"][metric]["value"] >= least
    target = tmp_path / "out.jsonl"
    words = [f"--run={tmp_path / 'run'}", f"--input={table}", f"--output={target}"]
    assert predict.main(["predict", *words]) == 0
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(answers) == len(RECORDS) and len(answers[0]) > len(RECORDS[0])
    if kind == "label sets":
        check_one_threshold(tmp_path / "run", table, answers, capsys)
    if kind == "relations":  # several name the two by their places, too
        assert predict.main(["predict", words[0], *words[:2]]) == 0
        both = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["predicted"] for one in both] == [one["predicted"] for one in answers]
    if kind in ("choices", "relations"):
        assert predict.main(["predict", *words[:2], "--temperature=2"]) == 0
        warmer = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        for one, other in zip(answers, warmer, strict=True):
            cold = np.array([*one["probabilities"].values()])
            assert np.allclose([*other["probabilities"].values()], cold**0.5 / (cold**0.5).sum(), atol=1e-4)


def check_one_threshold(folder, table, answers, capsys):
    """The best of all thresholds that give another answer is found, kept and used, and an option stands above it."""
    given = lambda least: [
        {k for k, share in one["probabilities"].items() if share >= least} for one in answers
    ]
    right = [{*row["labels"].split("|")} - {""} for row in RECORDS]

    def micro_f1(least):
        hits = sum(len(a & b) for a, b in zip(given(least), right, strict=True))
        return 2 * hits / sum(len(a) + len(b) for a, b in zip(given(least), right, strict=True))

    best = max(micro_f1(share) for one in answers for share in one["probabilities"].values())
    assert evaluate.main(["evaluate", f"--run={folder}", f"--data={table}", "--calibrate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["metrics"]["micro_f1"]["value"] == pytest.approx(best, rel=1e-6)
    least = found["calibration"]["threshold"]
    texts = [row["text"] for row in RECORDS[:8]]
    kept, half = jaxlm.load(folder).predict(texts), given(0.5)[:8]
    assert [{*one["predicted"]} for one in kept] == given(least)[:8]
    assert predict.main(["predict", f"--run={folder}", "--threshold=0.5", *texts]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{*one["predicted"]} for one in said] == half
    with pytest.raises(UserError, match="--threshold=2.0: a probability, 0 to 1"):
        predict.main(["predict", f"--run={folder}", "--threshold=2", "a"])
    with pytest.raises(UserError, match="--temperature is of labels with probabilities"):
        predict.main(["predict", f"--run={folder}", "--temperature=2", "a"])


@pytest.mark.parametrize("kind", ["label sets", "numbers"])
def test_exported_they_are_a_transformers_model_that_comes_back_as_what_it_is(kind, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    table = tmp_path / "train.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in RECORDS))
    run = small.recipe("multi_label", table, tmp_path / "cache", tokens=150, steps=2)
    if kind == "numbers":
        run.objective = Regression(column="score", texts=1, pooling="own", max_tokens=28, items_per_row=4)
        run.data.columns = (Number(field="score"),)
    run.objective = Neftune(of=run.objective, alpha=5.0)  # what stands around it is not asked for its labels
    run.evaluators, run.checkpoint.keep.best_metric = (), "eval/loss"
    assert jaxlm.fit(run, workdir=tmp_path / "run").code == 0
    model, texts = jaxlm.load(tmp_path / "run"), [row["text"] for row in RECORDS[:3]]
    folder = model.export(tmp_path / "hf")
    assert not (folder / "modules.json").exists(), "it was trained to judge, not to embed"
    ours = model.predict(texts)
    assert jaxlm.load(f"hf:{folder}").predict(texts) == [
        {
            name: pytest.approx(value, abs=1e-5) if name != "predicted" or kind == "numbers" else value
            for name, value in one.items()
        }
        for one in ours
    ]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**tokens).logits
    if kind == "numbers":
        assert theirs.config.problem_type == "regression"
        found, expected = logits[:, 0], [one["predicted"] for one in ours]
    else:
        assert theirs.config.problem_type == "multi_label_classification"
        found, expected = logits.sigmoid(), [list(one["probabilities"].values()) for one in ours]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def replaced(name, **changes):
    """A change of a run: another objective, with other fields."""

    def change(run):
        labels = {"labels": ()} if hasattr(KINDS[name], "labels") else {}
        run.objective = dataclasses.replace(KINDS[name], **labels | changes)
        run.data.columns = COLUMNS
        run.data.text_fields = FIELDS.get(name, ())
        run.data.steps = (MARKS,) if name == "relations" else ()

    return change


@pytest.mark.parametrize(
    ("change", "row", "message"),
    [
        (replaced("classes"), {"label": 0.5}, r't\.jsonl:1: field "label" is 0\.5; it must be a label: a string'),
        (replaced("classes", column="score"), {}, r'column="score" is one of Number in data\.columns, and '
         r"Classification learns Label\..*columns=\(Label\(field='score'\),\)"),
        (replaced("classes", pooling="max"), {}, "pooling='max'; allowed: own, mean"),
        (replaced("label sets", column="label"), {}, r"MultiLabel learns Labels\..*Labels\(field='label', separator='\|'\)"),
        (replaced("label sets"), {"labels": 3}, r"must be a list of labels, or a string of them with \"\|\" between two"),
        (replaced("label sets", thresholds=(0.5, 2.0)), {}, r"thresholds=\(0\.5, 2\.0\): one from 0 to 1"),
        (replaced("label sets", labels=("a", "b"), thresholds=(0.5,)), {}, "one from 0 to 1 for each of the 2 labels"),
        (replaced("numbers of pairs"), {"score": "high"}, r'field "score" is \'high\'; it must be a finite number'),
        (replaced("numbers of pairs", column="scor"), {}, r'Regression learns Number\. Did you mean "score"'),
        (replaced("similarity", lowest=5.0), {}, r"lowest=5\.0, .*highest=5\.0: .* first must be below"),
        (replaced("choices", choices=3), {}, r"choices=3, but the labels are bad, good: .*choices=2"),
        (replaced("relations", parts=("head", "tale")), {}, r"data\.columns has no Spans 'tale' \(it has head, tail\)"),
        (replaced("relations"), {"tail": {"start": 4, "end": 8}}, r"overlap, or there are several texts"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused_by_name(change, row, message, tmp_path):
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(one) + "\n" for one in [RECORDS[0] | row, *RECORDS[1:]]))
    run = small.recipe("classification", table, tmp_path / "cache", tokens=150, steps=2)
    run.model.max_positions, run.stages = 64, (dataclasses.replace(run.stages[0], length=64),)
    change(run)
    with pytest.raises(UserError, match=message):
        jaxlm.batch_at(run)


def test_numbers_as_labels_and_too_few_validation_rows_are_refused(tmp_path):
    rows = [RECORDS[0] | {"label": f"{i / 8}"} for i in range(60)]
    for labels, message in (
        (
            [row["label"] for row in rows],
            r'column "label" holds numbers \(0\.0, 0\.125, .*objective=Regression\(column=',
        ),
        (
            [f"n{i % 40}" for i in range(60)],
            r'column "label" has \d+ labels, and the validation split \d+ rows',
        ),
    ):
        table = tmp_path / f"{labels[1]}.csv"
        lines = [f"text number {i},{label}" for i, label in enumerate(labels)]
        table.write_text("\n".join(["text,label", *lines]))
        run = small.recipe("classification", table, tmp_path / "cache", tokens=150, steps=2)
        with pytest.raises(UserError, match=message):
            jaxlm.batch_at(run)


def test_a_text_without_its_markers_is_refused(tmp_path):
    from jaxlm.config import Data
    from jaxlm.tasks.relations import Relating

    data = Data(corpus="x", steps=(MARKS,), packing="none", validation_share=0.0, test_share=0.0)
    task = Relating(None, data, KINDS["relations"])
    task.check("an [E1] old [/E1] man and a [E2] sea [/E2]")
    with pytest.raises(UserError, match=r"must have \[E2\] and \[/E2\] once"):
        task.check("an [E1] old [/E1] man")


def test_spans_are_marked_with_their_places_moved():
    found = Record(("Is it, the big sea?",), (((11, 14, "head"),), ((15, 18, "tail"),), ((7, 10, "other"),)))
    made = MARKS.apply(found)
    assert made.texts == ("Is it, the [E1] big [/E1] [E2] sea [/E2] ?",)
    said = [made.texts[0][a:b] for ((a, b, _),) in made.values]
    assert said == ["[E1] big [/E1]", "[E2] sea [/E2]", "the"]
    assert MARKS.apply(made) == made
    with pytest.raises(UserError, match="two different markers for each label"):
        MarkSpans(labels=("a",), markers=("[",)).validate("config.data.steps[0]")
