"""Claims about question answering: learned from SQuAD's form, windows packed as if alone, answers in the characters of
the context, measured by SQuAD's rule, or refused by name."""

import collections
import dataclasses
import json
import random
import shutil

import jax
import numpy as np
import pytest

import jaxlm
from jaxlm.batch import Batch
from jaxlm.commands import evaluate, predict
from jaxlm.data.corpus.columns import Answers, Label
from jaxlm.errors import UserError
from jaxlm.exchange import exporting
from jaxlm.infer import extract, loaded
from jaxlm.models.build import build
from jaxlm.objectives.question_answering import AnswerTargets, QuestionAnswering
from jaxlm.run import inputs
from jaxlm.tasks import of, table
from jaxlm.tasks.ensemble import Ensemble
from tests.exchange.folders import CONFIG
from tests.objectives import small
from tests.runs import assert_same_run

COLOURS, NUMBERS = ("red", "blue", "green", "pink"), ("two", "five", "nine", "ten")
FILL = ("birds", "saw", "the", "old", "house", "near", "a", "lake", "with", "boats")
STEPS = 400
OBJECTIVE = QuestionAnswering(
    column="answers",
    no_answer=False,
    max_tokens=20,
    overlap=3,
    question_tokens=5,
    items_per_row=4,
)


def squad(number, seed=0, none=False):
    """Texts with a colour and a number, of one window or of several; with `none` some lack what is asked for."""
    rng = random.Random(seed)
    paragraphs = []
    for i in range(number):
        words = rng.choices(FILL, k=rng.choice([6, 12, 40]))
        colour, many = rng.choice(COLOURS), rng.choice(NUMBERS)
        a, b = rng.sample(range(len(words)), 2)
        words[a], words[b] = colour, many
        text = " ".join(words)
        asked = {"colour colour?": colour, "number number?": many}
        if none and i % 3 == 0:
            text = text.replace(colour, "tall")
            asked["colour colour?"] = ""
        paragraphs.append({"context": text, "qas": [qa(f"{i} {q}", q, a, text) for q, a in asked.items()]})
    return {"version": "2", "data": [{"title": "made", "paragraphs": paragraphs}]}


def qa(name, question, answer, text):
    given = [{"text": answer, "answer_start": text.index(answer)}] if answer else []
    return {"id": name, "question": question, "answers": given, "is_impossible": not given}


def write(path, made):
    path.write_text(json.dumps(made))
    return path


def recipe(corpus, cache, **more):
    run = small.recipe("question_answering", corpus, cache, tokens=110, steps=STEPS)
    run.objective = dataclasses.replace(
        run.objective, max_tokens=28, overlap=5, question_tokens=4, items_per_row=4, **more
    )
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run folder, of questions some of which have no answer)."""
    place = tmp_path_factory.mktemp("answers")
    table = write(place / "train.json", squad(400, none=True))
    outcome = jaxlm.fit(recipe(table, place / "cache", no_answer=True), workdir=place / "run")
    assert outcome.code == 0 and outcome.metrics["eval/f1"] > 0.9
    return place / "run"


def test_answers_are_learned_and_measured_by_squads_rule(trained, tmp_path, capsys):
    data = write(tmp_path / "test.json", squad(30, seed=1, none=True))
    assert evaluate.main(["evaluate", f"--run={trained}", f"--data={data}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    metrics = {name: one["value"] for name, one in found["metrics"].items()}
    assert found["items"] == 60 and metrics["exact"] > 0.9 and metrics["f1"] >= metrics["exact"]
    assert metrics["best_exact"] >= metrics["exact"] and metrics["no_answer_exact"] > 0.8
    assert set(metrics) == set(of.of(jaxlm.load(trained), max_new_tokens=1).metrics)
    both = [json.dumps(row) for row in found["metrics"].values()]
    assert all(json.loads(row)["low"] <= json.loads(row)["high"] for row in both)


def test_a_table_is_answered_in_characters_of_the_context_whatever_stands_beside(trained, tmp_path):
    source, target = write(tmp_path / "new.json", squad(12, seed=2, none=True)), tmp_path / "out.jsonl"
    assert predict.main(["predict", f"--run={trained}", f"--input={source}", f"--output={target}"]) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    task = of.of(jaxlm.load(trained), max_new_tokens=1)
    threshold, right = task.threshold, 0
    for row in rows:
        place = row["place"]
        assert row["predicted"] == ("" if place is None else row["context"][slice(*place)])
        assert (place is None) == (row["no_answer_score"] > threshold) and 0.0 < row["probability"] <= 1.0
        right += [row["predicted"]] == ([one["text"] for one in row["answers"]] or [""])
    assert len(rows) == 24 and right > 20
    for row in rows[::5]:
        item = (row["question"], row["context"])
        (alone,) = task.answer([item], task.ask([item]))
        assert alone["predicted"] == row["predicted"]
        assert alone["probability"] == pytest.approx(row["probability"], abs=1e-4)
        (ranked,) = task.candidates([item], 5)
        assert len(ranked) == 5 and row["predicted"] in [one["predicted"] for one in ranked[:2]]
        assert [one["probability"] for one in ranked] == sorted(
            (one["probability"] for one in ranked), reverse=True
        )


def test_the_threshold_decides_between_an_answer_and_none_and_the_best_is_kept(trained):
    model = jaxlm.load(trained)
    run, item = model.stored.run, ("colour colour?", "the old house near a lake")
    kept = of.of_run(model, run).threshold
    assert kept == model.stored.metrics["eval/best_f1_threshold"] != 0.0
    for threshold, none in ((-1e6, True), (1e6, False)):
        objective = dataclasses.replace(run.objective, threshold=threshold)
        task = of.of_run(model, dataclasses.replace(run, objective=objective))
        (said,) = task.answer([item], task.ask([item]))
        assert (said["predicted"] == "", said["place"] is None) == (none, none)


def test_it_goes_on_from_the_middle_in_the_same_bits(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / str(STEPS))
    run = recipe(trained.parent / "train.json", trained.parent / "cache", no_answer=True)
    assert jaxlm.fit(run, workdir=tmp_path / "again").code == 0
    assert f"resumed from the checkpoint of step {STEPS // 2}" in (tmp_path / "again" / "run.log").read_text()
    assert_same_run(trained, tmp_path / "again", STEPS)


def test_no_context_is_in_two_splits_of_its_shards(trained):
    run = recipe(trained.parent / "train.json", trained.parent / "cache", no_answer=True)
    text = inputs.text(run, lambda line: None)
    sources, found = text.streams[0].sources[""], {}
    for split in ("train", "validation"):
        documents = sources[split]
        context = lambda k, of=documents: tuple(of[k][of.sentence_lengths(k)[0] :])
        found[split] = {context(k) for k in range(len(documents))}
    assert min(map(len, found.values())) > 40 and not found["train"] & found["validation"]


def test_models_with_other_windows_answer_with_the_union_of_what_each_proposes(trained, tmp_path):
    model = jaxlm.load(trained)
    run = model.stored.run
    short = dataclasses.replace(run.objective, max_tokens=run.objective.max_tokens - 3)
    tasks = [of.of_run(model, dataclasses.replace(run, objective=one)) for one in (run.objective, short)]
    both = Ensemble(tasks, [3.0, 1.0])
    data = write(tmp_path / "new.json", squad(8, seed=4, none=True))
    records = [record for record, _ in table.rows(both, str(data))]
    found = table.answered(both, records)
    for record, answer in zip(records, found.answers, strict=True):
        item, total = both.item(record), collections.Counter()
        for task, share in zip(tasks, (0.75, 0.25), strict=True):
            for one in task.candidates([item], 100)[0]:
                total[one["place"] and tuple(one["place"])] += share * one["probability"]
        none = total.pop(None)
        (place, best) = max(total.items(), key=lambda one: one[1])
        assert answer["no_answer_score"] == pytest.approx(np.log(none / best), abs=1e-4)
        if answer["place"] is not None:
            assert tuple(answer["place"]) == place and answer["probability"] == pytest.approx(best, rel=1e-4)
        assert (answer["place"] is None) == (np.log(none / best) > tasks[0].threshold)
    assert {answer["place"] is None for answer in found.answers} == {True, False}
    assert found.measured().metrics["exact"].value > 0.8
    with pytest.raises(UserError, match="it makes no choice that could be voted on"):
        Ensemble(tasks, vote=True).ask([both.item(records[0])])


def test_what_is_exported_says_the_same_in_transformers(trained, tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    exporting.to_hf(trained, tmp_path / "hf", say=lambda line: None)
    hf = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "hf").eval()
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    model = jaxlm.load(trained)
    objective = model.stored.run.objective
    text = " ".join([*FILL, "red", *FILL, "nine", *FILL, *FILL])
    (ours,) = extract.scores(model, objective, [("colour colour?", text)])
    cut = {"truncation": "only_second", "max_length": 28, "stride": 5, "return_overflowing_tokens": True}
    theirs = words("colour colour?", text, **cut, padding=True, return_tensors="pt")
    theirs.pop("overflow_to_sample_mapping")
    with torch.no_grad():
        said = hf(**theirs)
    assert len(ours) == len(theirs["input_ids"]) > 2
    foreign = of.of(loaded.load(f"hf:{tmp_path / 'hf'}"), max_new_tokens=1)
    assert foreign.candidates([("colour colour?", text)], 1)[0][0]["predicted"] == "red"
    for w, scores_T2 in enumerate(ours):
        context = [i for i, of in enumerate(theirs.sequence_ids(w)) if of == 1]
        both = torch.stack([said.start_logits[w], said.end_logits[w]], -1)[[0, *context]]
        np.testing.assert_allclose(scores_T2, both.numpy(), atol=2e-4)


def test_windows_of_a_packed_row_are_judged_as_if_alone():
    """Loss and gradient of three windows in a row, and one a row; the last has no answer."""
    model = build(dataclasses.replace(CONFIG, dropout=0.0), OBJECTIVE.heads(CONFIG))
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(1)
    rows = [rng.integers(5, 90, n) for n in (7, 9, 8)]
    answers = [(4, 6), (3, 3), (0, 0)]

    def batch(groups):
        tokens, segments, positions, types = np.zeros((4, len(groups), 32), np.int32)
        places = np.zeros((len(groups), 4, 2), np.int32)
        weights = np.zeros((len(groups), 4), np.float32)
        for b, group in enumerate(groups):
            at = 0
            for c, i in enumerate(group):
                span = slice(at, at + len(rows[i]))
                tokens[b, span], segments[b, span] = rows[i], c + 1
                positions[b, span], types[b, span] = np.arange(len(rows[i])), np.arange(len(rows[i])) > 3
                places[b, c], weights[b, c] = np.add(answers[i], at), 1.0
                at = span.stop
        return Batch(
            tokens_BT=tokens,
            segments_BT=segments,
            positions_BT=positions,
            types_BT=types,
            targets=AnswerTargets(places_BC2=places, weights_BC=weights),
        )

    def loss(params, batch):
        total, weight = OBJECTIVE.loss(model.bind(params), batch, None).terms["span"]
        return total / weight

    both = jax.jit(jax.value_and_grad(loss))
    packed, alone = (both(params, batch(groups)) for groups in ([[0, 1, 2], [], []], [[0], [1], [2]]))
    np.testing.assert_allclose(packed[0], alone[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(packed[1]), jax.tree.leaves(alone[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    shown = batch([[0, 1, 2]]).targets.show(0)
    assert shown.notes == {1: "answer 4 to 6", 2: "answer 10 to 10", 3: "answer 16 to 16"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: setattr(run.objective, "column", "answer"), r'no such Answers \(it has Answers "answers"\)'),
        (lambda run: setattr(run.data, "columns", (Label(field="answers"),)), r'it has Label "answers"\)\. Fix'),
        (lambda run: setattr(run.objective, "overlap", 21), r"leave 21 for the context; .*overlap=7"),
        (lambda run: setattr(run.objective, "max_tokens", 40), r"Fix: --config\.objective\.max_tokens=32"),
        (lambda run: setattr(run.objective, "no_answer", False), r"Fix: --config\.objective\.no_answer=True"),
        (lambda run: setattr(run.data, "text_fields", ("context", "question")), "with the question first"),
    ],
)  # fmt: skip
def test_what_answers_no_question_is_refused_by_name(tmp_path, change, message):
    run = recipe(write(tmp_path / "t.json", squad(40, none=True)), tmp_path / "cache", no_answer=True)
    change(run)
    with pytest.raises(UserError, match=message):
        jaxlm.fit(run, workdir=tmp_path / "run")


def test_the_built_in_questions_have_their_answers_in_the_text(tmp_path):
    from jaxlm.data.corpus import builtin_questions

    text = "Return it.\n\nParameters\naxis : int, optional \n    The axis.\n    Default 0.\nout : ndarray\n    Where to.\n"
    found = [(question, text[a:b]) for question, (a, b) in builtin_questions.questions(text)]
    assert found == [
        ("What type is axis?", "int, optional"),
        ("What does axis mean?", "The axis."),
        ("What type is out?", "ndarray"),
        ("What does out mean?", "Where to."),
    ]
    run = jaxlm.load_recipe("question_answering")
    run.data.columns = (Answers(field="answers", text="question"),)
    with pytest.raises(UserError, match="has a question, a context and answers"):
        jaxlm.batch_at(run)
