"""Claims about tags of words: learned from CoNLL, possible sequences only, whole spans counted as seqeval counts them."""

import dataclasses
import itertools
import json
import random

import numpy as np
import pytest

import jaxlm
from jaxlm.commands import evaluate, predict
from jaxlm.config import folder as runs
from jaxlm.data.corpus import corpus
from jaxlm.data.corpus.columns import Label
from jaxlm.data.corpus.spans import Spans, Tags
from jaxlm.errors import UserError
from jaxlm.evaluate import spans
from jaxlm.formats import safetensors_file
from jaxlm.infer import loaded, tag
from jaxlm.objectives import crf
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.objectives.tagging import Tagging
from jaxlm.objectives.wrapped import Wrapped
from jaxlm.tasks import of, table
from tests.extensions.test_tagger import sentence
from tests.objectives import small

LABELS = ("LOC", "PER")


def sentences(number=300, seed=0):
    """[(word, tag), ...] of each."""
    rng = random.Random(seed)
    for _ in range(number):
        made = sentence(rng)
        yield list(zip(made["tokens"], made["tags"], strict=True))


def conll(path, found):
    path.write_text("\n\n".join("\n".join(f"{word} {name}" for word, name in one) for one in found) + "\n")
    return path


def recipe(corpus, cache):
    return small.recipe("tagging", corpus, cache, tokens=150, steps=60)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("tags")
    table = conll(place / "train.conll", sentences())
    assert jaxlm.fit(recipe(table, place / "cache"), workdir=place / "run").code == 0
    return place / "run"


def test_a_conll_file_is_learned_and_measured_by_whole_spans(trained, tmp_path, capsys):
    assert runs.saved_run(runs.RunFolder(trained)).objective.labels == LABELS
    data = conll(tmp_path / "test.conll", sentences(40, seed=1))
    assert evaluate.main(["evaluate", f"--run={trained}", f"--data={data}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 40 and found["metrics"]["f1"]["value"] > 0.95
    assert found["metrics"]["f1"]["low"] <= found["metrics"]["f1"]["value"] <= found["metrics"]["f1"]["high"]


def test_its_own_metrics_are_measured_while_it_trains_and_choose_the_checkpoint(trained):
    run = runs.saved_run(runs.RunFolder(trained))
    steps, values = jaxlm.read_curves(trained)["eval/f1"]
    assert steps.tolist() == [30, 60] and run.checkpoint.keep.best_metric == "eval/f1"
    cache = run.data.cache
    held_out = [
        one
        for one in corpus.open_source(run.data.corpus_config(), cache).records()
        if run.data.corpus_config().split(one) == "validation"
    ]
    model = loaded.load(trained, step=60)
    task = of.of_run(model, dataclasses.replace(run, objective=Wrapped(of=run.objective)))
    found = table.answered(task, held_out).measured()  # whatever stands around the objective
    assert found.items == len(held_out) > 20
    assert found.metrics["f1"].value == pytest.approx(values[-1], abs=1e-6)
    run.objective = CausalLM(z_loss=0.0, label_smoothing=0.0)
    assert of.of_run(model, run) is None


def test_exported_it_is_the_tagger_of_a_transformers_pipeline_and_comes_back(trained, tmp_path, capsys):
    transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    model = jaxlm.load(trained)
    texts = [" ".join(word for word, _ in one) for one in sentences(12, seed=3)]
    folder = model.export(tmp_path / "hf")
    pipe = transformers.pipeline("token-classification", str(folder), aggregation_strategy="first")
    ours = [one["spans"] for one in model.predict(texts)]
    for theirs, mine in zip(pipe(texts), ours, strict=True):
        expected = [(one["start"], one["end"], one["label"]) for one in mine]
        assert [(one["start"], one["end"], one["entity_group"]) for one in theirs] == expected
    assert sum(map(len, ours)) > 12
    assert [one["spans"] for one in jaxlm.load(f"hf:{folder}").predict(texts)] == ours
    data = conll(tmp_path / "test.conll", sentences(12, seed=3))
    capsys.readouterr()
    assert evaluate.main(["evaluate", f"--run=hf:{folder}", f"--data={data}", "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)["metrics"]
    assert evaluate.main(["evaluate", f"--run={trained}", f"--data={data}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == theirs
    for one, other in ((f"hf:{folder}", trained), (trained, f"hf:{folder}")):
        words = [f"--run={one}", f"--against={other}", f"--data={data}", "--folder=", "--json"]
        assert evaluate.main(["evaluate", *words]) == 0
        found = json.loads(capsys.readouterr().out)["differences"]["f1"]
        assert (found["one"], found["value"], found["p"]) == (theirs["f1"]["value"], 0.0, 1.0)
    config = json.loads((folder / "config.json").read_text())
    names = list(model.stored.class_names()["tags"])
    rows = [2, 4, 0, 1, 3]  # the classes in another order
    turned = {str(i): names[row] for i, row in enumerate(rows)}
    config |= {"id2label": turned, "label2id": {name: int(i) for i, name in turned.items()}}
    (folder / "config.json").write_text(json.dumps(config))
    weights = safetensors_file.load(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = np.ascontiguousarray(weights[name][rows])
    safetensors_file.save(folder / "model.safetensors", weights)
    assert [one["spans"] for one in jaxlm.load(f"hf:{folder}").predict(texts)] == ours


def test_spans_of_new_texts_stand_in_their_characters(trained, capsys):
    text = "Anna Maria Holt went to  Old Harbour Town in May 1950"
    assert predict.main(["predict", f"--run={trained}", "--text-field=text", text]) == 0
    row = json.loads(capsys.readouterr().out)
    assert [(one["text"], one["label"]) for one in row["spans"]] == [
        ("Anna Maria Holt", "PER"),
        ("Old Harbour Town", "LOC"),
    ]
    assert all(text[one["start"] : one["end"]] == one["text"] for one in row["spans"])


@pytest.mark.parametrize("kind", ["conll", "jsonl"])
def test_words_of_a_table_are_joined_as_they_were_in_training(trained, kind, tmp_path, capsys):
    """What `evaluate --data` takes, by one run and by several."""
    some = list(sentences(6, seed=4))
    texts = [" ".join(word for word, _ in one) for one in some]
    expected = [one["spans"] for one in jaxlm.load(trained).predict(texts)]
    data = conll(tmp_path / "new.conll", some)
    if kind == "jsonl":
        data = tmp_path / "new.jsonl"
        rows = ({"id": i, "tokens": [word for word, _ in one]} for i, one in enumerate(some))
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for runs_ in ([f"--run={trained}"], [f"--run={trained}@30", f"--run={trained}@60", "--weights=0,1"]):
        assert predict.main(["predict", *runs_, f"--input={data}"]) == 0
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["tokens"] for one in found] == [[word for word, _ in one] for one in some]
        assert [one["spans"] for one in found] == expected


@pytest.mark.parametrize(
    ("tokens", "message"),
    [(["a", 1], "it must be a list of words, none of them empty"), (3, "must be a text that is not empty")],
)
def test_a_row_without_words_is_refused_with_its_place(trained, tokens, message, tmp_path):
    (tmp_path / "new.jsonl").write_text(json.dumps({"tokens": tokens}) + "\n")
    with pytest.raises(UserError, match=rf"new\.jsonl:1: .*{message}"):
        predict.main(["predict", f"--run={trained}", f"--input={tmp_path / 'new.jsonl'}"])


def test_the_sequence_is_the_best_of_all_that_can_be():
    """Against every sequence of four tags over two labels."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        scores_NK = rng.normal(size=(4, 5))
        can = [
            path
            for path in itertools.product(range(5), repeat=4)
            if all(k % 2 or not k or before in (k - 1, k) for before, k in itertools.pairwise((0, *path)))
        ]
        best = max(can, key=lambda path: sum(scores_NK[i, k] for i, k in enumerate(path)))
        assert tag.likeliest(scores_NK, crf.allowed(5, "bio")) == list(best)
    assert tag.likeliest(np.zeros((0, 5)), crf.allowed(5, "bio")) == []


def test_words_get_the_tag_of_their_first_token_and_cut_ones_none():
    offsets = np.array([[0, 2], [2, 4], [5, 6], [7, 9], [9, 10]])  # "ab|cd e fg|h", then cut
    words = tag.words("abcd e fgh ij", " ")
    assert words == [(0, 4), (5, 6), (7, 10), (11, 13)]
    assert tag._first_tokens(words, offsets).tolist() == [0, 2, 3, -1]
    with_space = np.array([[0, 4], [4, 6], [6, 10]])  # byte-level tokens begin with the space
    assert tag._first_tokens(tag.words("abcd e fgh", " "), with_space).tolist() == [0, 1, 2]
    assert tag.words("天 地", "") == [(0, 1), (2, 3)] and tag.words("", "") == []
    assert tag._first_tokens([(0, 1)], np.zeros((0, 2), int)).tolist() == [-1]
    objective = Tagging(column="tags", labels=("A",), scheme="bio", max_tokens=8, items_per_row=1)
    scores_NK = np.log([[0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [np.nan] * 3])
    assert tag.spans(objective, ["abcd e fgh"], [scores_NK]) == [[(0, 6, "A")]]


def test_metrics_are_those_of_seqeval():
    seqeval = pytest.importorskip("seqeval.metrics", reason="needs the extra `parity` (seqeval)")
    from seqeval.scheme import IOB2

    rng = random.Random(3)

    def drawn():
        names, found, at = [], [], 0
        while at < 12:
            size = rng.choice([1, 1, 2, 3])
            label = rng.choice(["", "", *LABELS])
            names += [f"{'I' if i else 'B'}-{label}" if label else "O" for i in range(size)]
            found += [(at, at + size, label)] if label else []
            at += size
        return names, found

    truth, guess = [drawn() for _ in range(60)], [drawn() for _ in range(60)]
    longest = [max(len(a), len(b)) for (a, _), (b, _) in zip(truth, guess, strict=True)]
    padded = [
        [[*names, *["O"] * (n - len(names))] for (names, _), n in zip(side, longest, strict=True)]
        for side in (truth, guess)
    ]
    theirs = {"mode": "strict", "scheme": IOB2}
    ours = spans.metrics([found for _, found in truth], [found for _, found in guess], LABELS)
    assert ours["f1"].value == pytest.approx(seqeval.f1_score(*padded, **theirs))
    assert ours["precision"].value == pytest.approx(seqeval.precision_score(*padded, **theirs))
    assert ours["recall"].value == pytest.approx(seqeval.recall_score(*padded, **theirs))
    assert ours["macro_f1"].value == pytest.approx(seqeval.f1_score(*padded, average="macro", **theirs))
    assert ours["f1"].low < ours["f1"].value < ours["f1"].high


def test_parts_of_speech_give_every_word_one_label(tmp_path):
    found = [[(word, "NOUN" if word[0].isupper() else "X") for word, _ in one] for one in sentences(80)]
    run = recipe(conll(tmp_path / "pos.conll", found), tmp_path / "cache")
    run.data.columns = (Tags(field="tags", text="tokens", between=" ", scheme="words"),)
    with pytest.raises(
        UserError, match=r'column "tags" has scheme="words"\. Fix: --config\.objective\.scheme=words'
    ):
        jaxlm.batch_at(run)
    run.objective.scheme = "words"
    (batch,) = jaxlm.batch_at(run).values()
    asked = batch.targets.weights_BT > 0
    assert set(np.unique(batch.targets.tags_BT[asked])) == {0, 1} and 0.3 < asked.mean() < 0.9
    assert run.objective.labels == () and Tagging.tags.fget(
        dataclasses.replace(run.objective, labels=("A", "B"))
    ) == ("A", "B")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: setattr(run.objective, "column", "tag"), r"no such labels .*Did you mean \"tags\""),
        (lambda run: setattr(run.objective, "scheme", "iobes"), r"scheme='iobes'; allowed: bio, words"),
        (lambda run: setattr(run.objective, "max_tokens", 60), r"Fix: --config\.objective\.max_tokens=30"),
        (lambda run: setattr(run.objective, "labels", ("LOC",)), r"labels=\('LOC',\), but column"),
    ],
)  # fmt: skip
def test_what_makes_no_tagger_is_refused_by_name(tmp_path, change, message):
    run = recipe(conll(tmp_path / "t.conll", sentences(60)), tmp_path / "cache")
    change(run)
    with pytest.raises(UserError, match=message):
        jaxlm.fit(run, workdir=tmp_path / "run")


def test_a_tag_that_the_run_does_not_know_is_named_with_its_line(trained, tmp_path):
    data = conll(tmp_path / "t.conll", [[("a", "O")], [("b", "B-ORG")]])
    with pytest.raises(UserError, match=r't\.conll:3: the label "ORG" is none of the run.s \(LOC, PER\)'):
        evaluate.main(["evaluate", f"--run={trained}", f"--data={data}"])


def test_spans_of_characters_are_as_good_as_tags():
    objective = Tagging(column="entities", labels=LABELS, scheme="bio", max_tokens=9, items_per_row=1)
    objective.check_columns((Spans(field="entities", text="text"), Label(field="label")))
    assert objective.tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
