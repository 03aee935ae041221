"""Claims about classes of texts: trained from a table, packed as if alone, answered as measured, or refused by name."""

import csv
import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
import tokenizers

import jaxlm
from jaxlm.batch import Batch
from jaxlm.commands import evaluate, predict
from jaxlm.config import folder as runs
from jaxlm.data.corpus.columns import Label
from jaxlm.data.rows.texts import longest_first
from jaxlm.errors import UserError
from jaxlm.infer import classify, loaded
from jaxlm.models.build import build
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.targets import ItemTargets
from tests.exchange.folders import CONFIG, tokenizer
from tests.objectives import small
from tests.objectives.small import write

GOOD, BAD = ("fine", "lovely", "great", "kind"), ("awful", "poor", "sad", "rude")
LABELS = ("bad", "good", "so-so")
OBJECTIVE = Classification(
    column="label", labels=LABELS, texts=1, pooling="own", max_tokens=20, items_per_row=4
)


def rows(number=240):
    rng = np.random.default_rng(0)
    for i in range(number):
        words = rng.choice(GOOD if i % 2 else BAD, 4)
        yield {"id": i, "text": f"the {' and '.join(words)} place {i}", "label": LABELS[i % 2]}


def recipe(corpus, cache):
    return small.recipe("classification", corpus, cache, tokens=120, steps=40)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run folder, table): words tell the label."""
    place = tmp_path_factory.mktemp("classes")
    table = write(place / "train.csv", rows())
    outcome = jaxlm.fit(recipe(table, place / "cache"), workdir=place / "run")
    assert outcome.code == 0
    return place / "run", table, outcome


def test_labels_are_read_from_the_training_data_kept_and_said(trained):
    folder, _, _ = trained
    assert runs.saved_run(runs.RunFolder(folder)).objective.labels == ("bad", "good")
    assert "  labels             " in (folder / "run.log").read_text()
    assert "jaxlm predict --run=" in (folder / "run.log").read_text()


def test_a_table_is_learned_and_new_rows_are_answered_as_it_was_measured(trained, tmp_path):
    folder, _, outcome = trained
    assert outcome.metrics["eval/classes_accuracy"] == 1.0
    new = [{"id": "a, b", "text": "a lovely and kind host"}, {"id": "", "text": "rude and awful"}]
    source, target = write(tmp_path / "new.csv", new), tmp_path / "out.csv"
    assert predict.main(["predict", f"--run={folder}", f"--input={source}", f"--output={target}"]) == 0
    with target.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [row["predicted"] for row in found] == ["good", "bad"]
    assert [{"id": row["id"], "text": row["text"]} for row in found] == new
    for row in found:
        shares = json.loads(row["probabilities"])
        assert sorted(shares) == ["bad", "good"] and sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
        assert shares[row["predicted"]] == float(row["probability"]) == max(shares.values())


def test_from_python_the_answers_are_the_same(trained):
    model = jaxlm.load(trained[0])
    texts = ["a lovely and kind host", "rude and awful"]
    found = model.predict(texts)
    assert [one["predicted"] for one in found] == ["good", "bad"]
    shares = classify.classify(model, model.stored.run.objective, [[text] for text in texts])
    assert [list(one["probabilities"].values()) for one in found] == [one.tolist() for one in shares]


def test_exported_it_is_the_classifier_of_a_transformers_pipeline_and_comes_back(trained, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    model, texts = jaxlm.load(trained[0]), ["a lovely and kind host", "rude and awful", "the place 17"]
    folder = model.export(tmp_path / "hf")
    found = transformers.pipeline("text-classification", str(folder), top_k=None)(texts)
    ours = [one["probabilities"] for one in model.predict(texts)]
    for theirs, mine in zip(found, ours, strict=True):
        assert {one["label"]: one["score"] for one in theirs} == pytest.approx(mine, abs=1e-5)
    back = jaxlm.load(f"hf:{folder}").predict(texts)
    assert [one["predicted"] for one in back] == [max(one, key=one.get) for one in ours]
    for one, mine in zip(back, ours, strict=True):
        assert one["probabilities"] == pytest.approx(mine, abs=1e-6)


def test_the_folder_alone_goes_on_without_reading_the_labels_again(trained):
    folder, _, outcome = trained
    from jaxlm import train

    assert train.main(["train", f"--workdir={folder}"]) == 0
    assert jaxlm.load(folder, step=40).evaluate("validation") == pytest.approx(outcome.metrics)


def test_a_table_with_the_right_labels_is_measured_with_intervals(trained, tmp_path, capsys):
    folder, table, _ = trained
    wrong = [dict(row, label=LABELS[1 - row["id"] % 2]) if row["id"] < 24 else row for row in rows()]
    data = write(tmp_path / "test.csv", wrong)
    assert evaluate.main(["evaluate", f"--run={folder}", f"--data={data}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 240 and found["metrics"]["accuracy"]["value"] == 0.9
    assert 0.85 < found["metrics"]["accuracy"]["low"] < 0.9 < found["metrics"]["accuracy"]["high"] < 0.95
    assert evaluate.main(["evaluate", f"--run={folder}", f"--data={table}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].split() == ["accuracy", "1.0000", "[1.0000,", "1.0000]"]
    assert [line.split()[:5] for line in said[-2:]] == [
        [name, "1.0000", "1.0000", "1.0000", "120"] for name in LABELS[:2]
    ]


@pytest.mark.parametrize(
    ("row", "words", "message"),
    [
        (
            {"text": "a", "label": "goood"},
            [],
            r't\.csv:2: the label "goood" is none of the run.s \(bad, good\)\. Did',
        ),
        (
            {"text": "a", "class": "good"},
            [],
            r't\.csv:2: no field "label"; the run reads text, label\. .*Rename',
        ),
        ({"text": "a", "label": "good"}, ["--split=test"], "leave --split and --rows out"),
        ({"text": " ", "label": "good"}, [], r't\.csv:2: field "text" is empty\. Repair or remove'),
    ],
)
def test_a_table_that_cannot_be_measured_is_refused(trained, tmp_path, row, words, message):
    data = write(tmp_path / "t.csv", [row])
    with pytest.raises(UserError, match=message):
        evaluate.main(["evaluate", f"--run={trained[0]}", f"--data={data}", *words])


def test_items_of_a_packed_row_are_judged_as_if_alone():
    """Loss and gradient of four texts in a row, and of the same texts one a row; a pair among them has types."""
    model = build(dataclasses.replace(CONFIG, dropout=0.0), OBJECTIVE.heads(CONFIG))
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(1)
    texts = [np.concatenate([[2], rng.integers(5, 90, n), [3]]) for n in (3, 5, 4, 6)]
    labels = [0, 1, 2, 1]
    kinds = [np.arange(len(t)) > 2 if i == 1 else np.zeros(len(t)) for i, t in enumerate(texts)]

    def batch(groups):
        made = {
            name: np.zeros((len(groups), 32), np.int32)
            for name in ("tokens", "segments", "positions", "types")
        }
        slots = {name: np.zeros((len(groups), 4), np.int32) for name in ("first", "labels")}
        weights = np.zeros((len(groups), 4), np.float32)
        for b, group in enumerate(groups):
            at = 0
            for c, i in enumerate(group):
                span = slice(at, at + len(texts[i]))
                made["tokens"][b, span], made["segments"][b, span] = texts[i], c + 1
                made["positions"][b, span], made["types"][b, span] = np.arange(len(texts[i])), kinds[i]
                slots["first"][b, c], slots["labels"][b, c], weights[b, c] = at, labels[i], 1.0
                at = span.stop
        targets = ItemTargets(first_BC=slots["first"], labels_BC=slots["labels"], weights_BC=weights)
        return Batch(**{f"{name}_BT": array for name, array in made.items()}, targets=targets)

    def loss(params, batch):
        total, weight = OBJECTIVE.loss(model.bind(params), batch, None).terms["classes"]
        return total / weight

    scored = jax.jit(jax.value_and_grad(loss))
    packed, alone = (scored(params, batch(g)) for g in ([[0, 1, 2, 3]], [[0], [1], [2], [3]]))
    np.testing.assert_allclose(packed[0], alone[0], rtol=1e-6)
    for a, b in zip(jax.tree.leaves(packed[1]), jax.tree.leaves(alone[1]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_loss_of_single_texts_and_pairs_is_that_of_transformers(tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    from jaxlm.exchange import stored

    words, names = tokenizer(), dict(enumerate(LABELS))
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=words.size, max_position_embeddings=32, id2label=names, **sizes
    )
    hf = transformers.BertForSequenceClassification(config).eval()
    hf.save_pretrained(tmp_path)
    words.save(tmp_path)
    theirs = transformers.BertTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ready = loaded.load(f"hf:{tmp_path}")
    assert stored.of_hf(tmp_path).heads
    for items in (
        [["the cat sat on the mat"], ["a dog"]],
        [["the cat sat", "a dog and a cat play in the garden"]],
    ):
        objective = dataclasses.replace(OBJECTIVE, texts=len(items[0]), max_tokens=9)
        ours = classify.classify(ready, objective, items)
        fields = [list(field) for field in zip(*items, strict=True)]
        cut = {"truncation": "longest_first", "max_length": 9 + 1 + len(items[0]), "padding": True}
        with torch.no_grad():
            shares = hf(**theirs(*fields, **cut, return_tensors="pt")).logits.softmax(-1).numpy()
        np.testing.assert_allclose(ours, shares, atol=1e-5)


def test_pairs_are_cut_as_the_tokenizers_library_cuts_them():
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    for a, b, most in itertools.product(range(1, 9), range(1, 9), range(2, 12)):
        words.enable_truncation(most, strategy="longest_first")
        found = words.encode(" ".join("a" * a), " ".join("b" * b))
        expected = [found.type_ids.count(0), found.type_ids.count(1)]
        assert longest_first(np.array([[a, b]]), most).tolist() == [expected], (a, b, most)


def test_two_fields_are_one_segment_with_types(tmp_path):
    """Premise and hypothesis: [CLS] a [SEP] b [SEP], the longer one cut."""
    found = [
        {"a": f"the {GOOD[i % 4]} place", "b": f"{i} {BAD[i % 4]} " * 20, "label": LABELS[i % 2]}
        for i in range(80)
    ]
    run = recipe(write(tmp_path / "pairs.csv", found), tmp_path / "cache")
    run.data.text_fields = ("a", "b")
    run.objective.texts, run.objective.max_tokens, run.objective.items_per_row = 2, 25, 1
    (batch,) = jaxlm.batch_at(run).values()
    cls, sep = tokenizer().vocabulary.cls, tokenizer().vocabulary.sep
    for tokens, types, segments in zip(batch.tokens_BT, batch.types_BT, batch.segments_BT, strict=True):
        used = int((segments > 0).sum())
        ends = np.flatnonzero(tokens[:used] == sep)
        assert tokens[0] == cls and len(ends) == 2 and ends[1] == used - 1 == 27
        assert (types[: ends[0] + 1] == 0).all() and (types[ends[0] + 1 : used] == 1).all()
    run.steps, run.optimizer.schedule.warmup = 2, "1 steps"
    assert jaxlm.fit(run, workdir=tmp_path / "run").code == 0
    target = tmp_path / "out.jsonl"
    words = [f"--run={tmp_path / 'run'}", f"--input={tmp_path / 'pairs.csv'}", f"--output={target}"]
    assert predict.main(["predict", *words]) == 0
    answers = [json.loads(line) for line in target.read_text().splitlines()]
    model = loaded.load(tmp_path / "run")
    expected = classify.classify(model, model.stored.run.objective, [(row["a"], row["b"]) for row in found])
    assert [row["predicted"] for row in answers] == [LABELS[int(one.argmax())] for one in expected]
    np.testing.assert_allclose(
        [list(row["probabilities"].values()) for row in answers], np.stack(expected), rtol=1e-4
    )
    with pytest.raises(UserError, match=r"The model takes 2 texts: give a table with a, b as --input"):
        predict.main(["predict", f"--run={tmp_path / 'run'}", "one text"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: setattr(run.objective, "column", "labell"), r'no such labels \(it has label\)\. Did you mean "label"'),
        (lambda run: setattr(run.objective, "labels", ("x",)), r"labels=\('x',\): two or more different names"),
        (lambda run: setattr(run.objective, "texts", 3), r"texts=3: allowed is 1 to 2"),
        (lambda run: setattr(run.objective, "max_tokens", 40), r"Fix: --config\.objective\.max_tokens=30"),
        (lambda run: setattr(run.objective, "labels", ("good", "no")), r"labels=\('good', 'no'\), but column"),
        (lambda run: setattr(run.data, "columns", (Label(field="one"),)) or setattr(run.objective, "column", "one"),
         r"has 1 label \(1\), and 2 or more are needed"),
    ],
)  # fmt: skip
def test_what_makes_no_classifier_is_refused_by_name(trained, tmp_path, change, message):
    run = recipe(write(tmp_path / "t.csv", (row | {"one": 1} for row in rows(60))), tmp_path / "cache")
    change(run)
    with pytest.raises(UserError, match=message):
        jaxlm.fit(run, workdir=tmp_path / "run")


def test_a_label_that_only_a_file_of_its_own_has_is_refused_with_its_place(tmp_path):
    run = recipe(write(tmp_path / "t.csv", rows(60)), tmp_path / "cache")
    odd = [row | {"label": "goood"} if row["id"] == 3 else row for row in rows(8)]
    run.data.validation = str(write(tmp_path / "dev.csv", odd))
    with pytest.raises(UserError, match=r'dev\.csv:5: the label "goood" .* Did you mean "good"'):
        jaxlm.fit(run, workdir=tmp_path / "run")


def test_model_tokenizer_and_weights_come_from_init_from_alone(tmp_path):
    from jaxlm.config import flags
    from tests.exchange.folders import hf_folder

    folder = hf_folder(tmp_path / "bert")
    command = flags.parse(
        ["train", "classification", f"--config.init_from=hf:{folder}", f"--workdir={tmp_path}"]
    )
    assert command.run.model.hidden == CONFIG.hidden and command.run.tokenizer.path == str(folder)
    assert command.run == flags.load(f"classification:hf:{folder}")
