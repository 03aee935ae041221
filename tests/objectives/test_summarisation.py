"""Claims about texts from texts: learned from a table, cut as said, answered as measured, packed as alone, as the peer."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import jaxlm
from jaxlm.batch import Vocabulary
from jaxlm.commands import evaluate, generate, predict
from jaxlm.config import Stage
from jaxlm.data import pipeline
from jaxlm.data.corpus.steps import Prefix
from jaxlm.data.tokenizer import Pretrained
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.objectives.search import Search
from jaxlm.objectives.translation import Summarisation
from tests.data.test_translations import Shards
from tests.infer.small_models import ENCODER_DECODERS, made
from tests.runs import assert_same_run

pytest.importorskip("rouge_score", reason="needs the extra `scores` (rouge-score)")

OBJECTIVE = Summarisation(
    z_loss=0.0,
    label_smoothing=0.0,
    decoder_start="pad",
    pairs_per_row=4,
    long_sources="cut",
    source_per_target=3,
)
NO = np.zeros(101, bool)
VOCABULARY = Vocabulary(size=101, pad=0, unk=3, bos=1, eos=2, special_V=NO, continues_V=NO)


class Words(Shards):
    """Ids that a small model has."""

    def __getitems__(self, ks):
        return [4 + (one * 7 + one // 1000 * 11) % 90 for one in super().__getitems__(ks)]


def batches(sentences, objective, method, length=24):
    """The rows of pairs of such lengths, stacked."""
    rows = pipeline.make_rows(
        objective,
        Words(sentences),
        VOCABULARY,
        row_length=length,
        method=method,
        seed=0,
        cache=None,
        train=False,
    )
    rng = np.random.default_rng(0)
    found = [objective.prepare(row, VOCABULARY, rng, train=True) for row in rows.read(range(len(rows)))]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def test_a_long_source_is_cut_a_long_target_left_out_and_targets_have_shorter_rows():
    batch = batches([[50, 3], [4, 7], [4, 8], [2, 1]], OBJECTIVE, "none")
    assert batch.source_tokens_BS.shape == (3, 24) and batch.tokens_BT.shape == (3, 8)
    sources, targets = (batch.source_segments_BS > 0).sum(axis=1), (batch.segments_BT > 0).sum(axis=1)
    assert sorted(zip(sources.tolist(), targets.tolist(), strict=True)) == [(3, 2), (5, 8), (24, 4)]
    packed = batches([[5, 3], [4, 2], [9, 1], [2, 1]], dataclasses.replace(OBJECTIVE, bos=True), "best_fit")
    used = packed.source_segments_BS > 0
    assert packed.source_segments_BS.max() > 1
    assert (packed.source_tokens_BS[used & (packed.source_positions_BS == 0)] == VOCABULARY.bos).all()


def test_packed_pairs_have_the_loss_and_gradient_of_pairs_alone():
    model, params = made(dataclasses.replace(ENCODER_DECODERS["T5"], dropout=0.0))
    sentences = [[5, 3], [4, 2], [9, 1], [2, 1], [6, 2]]

    def loss(params, batch):
        total, weight = OBJECTIVE.loss(model.bind(params), batch, None).terms["lm"]
        return total / weight

    results = []
    for method in ("none", "best_fit"):
        batch = batches(sentences, OBJECTIVE, method)
        results.append(jax.jit(jax.value_and_grad(loss))(params, batch))
    (alone, one), (packed, other) = results
    np.testing.assert_allclose(alone, packed, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(a).max()))


@pytest.mark.parametrize("name", ["T5", "BART"])
def test_loss_and_gradient_are_those_of_transformers(name):
    torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
    pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")
    from tools.parity.collection import cases

    case = next(case for case in cases() if case.name == name)
    hf = case.reference(seed=3).eval()
    start, bos = ("eos", True) if name == "BART" else ("pad", False)
    objective = dataclasses.replace(OBJECTIVE, decoder_start=start, bos=bos)
    batch = batches([[9, 2], [4, 2], [20, 1]], objective, "none", length=12)
    params, model = (
        jax.tree.map(np.asarray, case.params(hf)),
        build(dataclasses.replace(case.config, dropout=0.0)),
    )

    def loss(params):
        total, weight = objective.loss(model.bind(params), batch, None).terms["lm"]
        return total / weight

    ours, gradient = jax.jit(jax.value_and_grad(loss))(params)
    labels = np.where(batch.targets.weights_BM > 0, batch.targets.ids_BM, -100)
    as_torch = lambda a: torch.tensor(np.asarray(a), dtype=torch.long)
    theirs = hf(
        input_ids=as_torch(batch.source_tokens_BS),
        attention_mask=as_torch(batch.source_segments_BS > 0),
        decoder_input_ids=as_torch(batch.tokens_BT),
        labels=as_torch(labels),
    ).loss
    theirs.backward()
    np.testing.assert_allclose(float(ours), theirs.item(), rtol=1e-5)
    for parameter in hf.parameters():
        parameter.data = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    expected = jax.tree.map(np.asarray, case.params(hf))
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(b).max()))


STEPS = 120
COLOURS = ("red", "green", "blue", "black", "white")
NOUNS = [
    "zebra",
    "quilt",
    "fjord",
    "vexing",
    "jumper",
    "wizard",
    "hockey",
    "bishop",
    "camera",
    "garden",
    "window",
    "market",
    "pencil",
    "bottle",
    "lamp",
    "north",
    "valley",
    "eagle",
    "tunnel",
    "summit",
    "carpet",
    "blanket",
    "novel",
    "thumb",
    "ghost",
]


def records(number=200):
    for i in range(number):
        colour = COLOURS[i % 5]
        yield {
            "document": f"There are {i} {NOUNS[i % len(NOUNS)]} things. The {colour} one is near.",
            "summary": f"It is {colour}.",
        }


def recipe(place, table):
    """The recipe with a model of a layer a side; the cache stands in `place`."""
    run = jaxlm.load_recipe("summarisation")
    run.model = dataclasses.replace(run.model, hidden=32, heads=2, head_dim=16, mlp=48, vocab_size=100)
    run.tokenizer.vocab_size, run.tokenizer.sentinels = 100, 0
    run.data.corpus, run.data.cache, run.data.validation_share = str(table), str(place / "cache"), 0.15
    run.stages, run.objective.source_per_target = (Stage(length=64, share=1.0),), 4
    run.objective.label_smoothing, run.objective.search = 0.0, Search(beams=2, length_penalty=0.6)
    run.steps, run.batch_size, run.check_isolation = STEPS, 8, False
    run.optimizer.schedule.peak = 1e-2
    run.evaluation.every_steps = run.checkpoint.every_steps = STEPS // 2
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run folder, table, outcome): the summary names a word of the document."""
    place = tmp_path_factory.mktemp("summaries")
    table = place / "pairs.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in records()))
    outcome = jaxlm.fit(recipe(place, table), workdir=place / "run")
    assert outcome.code == 0
    return place / "run", table, outcome


def test_a_table_is_learned_and_answered_as_it_was_measured(trained, tmp_path, capsys):
    folder, table, outcome = trained
    assert outcome.metrics["eval/rouge1"] > 90
    assert evaluate.main(["evaluate", f"--run={folder}", f"--data={table}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 200 and list(found["metrics"]) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    source = tmp_path / "new.jsonl"
    source.write_text(json.dumps({"document": "There are 3 things. The blue one is near.", "id": 1}) + "\n")
    assert predict.main(["predict", f"--run={folder}", f"--input={source}"]) == 0
    out, err = capsys.readouterr()
    (row,) = map(json.loads, out.splitlines())
    assert (row["answer"], row["ended_by"], row["id"]) == ("It is blue.", "stop token", 1)
    assert "sums up, by a search with 2 beams, in up to 16 tokens" in err


def test_a_student_learns_from_the_answers_of_its_teacher(trained, tmp_path):
    """Sequence-level distillation (1606.07947), by the two commands of docs/distillation.md."""
    folder, table, _ = trained
    answered = tmp_path / "answered.jsonl"
    assert predict.main(["predict", f"--run={folder}", f"--input={table}", f"--output={answered}"]) == 0
    said = [json.loads(line) for line in answered.read_text().splitlines()]
    assert [row["document"] for row in said] == [row["document"] for row in map(json.loads, table.open())]
    run = recipe(folder.parent, answered)
    run.data.text_fields, run.model.encoder_layers, run.model.decoder_layers = ("document", "answer"), 1, 1
    run.tokenizer = Pretrained(path=str(folder / "tokenizer"))
    run.init_from, run.init_layers, run.steps = str(folder), "first", 2
    outcome = jaxlm.fit(run, workdir=tmp_path / "student")
    assert outcome.code == 0 and (outcome.step, bool(outcome.metrics)) == (2, True)


def test_it_goes_on_from_the_middle_in_the_same_bits(trained, tmp_path):
    folder, table, _ = trained
    shutil.copytree(folder, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / str(STEPS))
    assert jaxlm.fit(recipe(folder.parent, table), workdir=tmp_path / "again").code == 0
    assert f"resumed from the checkpoint of step {STEPS // 2}" in (tmp_path / "again" / "run.log").read_text()
    assert_same_run(folder, tmp_path / "again", STEPS)


def test_the_answers_of_a_batch_are_those_of_each_alone(trained):
    model, texts = jaxlm.load(trained[0]), [row["document"] for row in records(7)]
    together = model.predict([*texts, f"{texts[0]} {texts[1]}"])
    assert len({one["answer"] for one in together}) > 3
    for text, one in zip(texts, together, strict=False):
        assert model.predict([text]) == [one]


def test_the_prefix_stands_once_before_every_source(trained, capsys):
    folder, _, _ = trained
    assert Prefix(text="summarize: ").before("summarize: a") == "summarize: a"
    text = "There are 3 things. The blue one is near."
    model = jaxlm.load(folder)
    assert model.predict([text]) == model.predict([f"summarize: {text}"])
    found = model.generate([f"summarize: {text}"], beams=2, length_penalty=0.6, n_best=2, max_new_tokens=16)
    assert (
        found[0].text == model.predict([text])[0]["answer"]
        and found[0].written.score > found[1].written.score
    )
    words = ["--beams=2", "--length-penalty=0.6", "--max-new-tokens=16", f"summarize: {text}"]
    assert generate.main(["generate", f"--run={folder}", *words]) == 0
    assert capsys.readouterr().out.strip() == found[0].text
    with pytest.raises(UserError, match=r"--temperature=0\.5 beside a search"):
        generate.main(["generate", f"--run={folder}", *words, "--temperature=0.5"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"document": "a b", "text": "c"},
            r't\.jsonl:1: no field "summary"; the run reads document, summary',
        ),
        ({"document": "a b", "summary": ""}, r't\.jsonl:1: field "summary" is empty'),
    ],
)
def test_a_table_that_cannot_be_measured_is_refused(trained, tmp_path, row, message):
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=message):
        evaluate.main(["evaluate", f"--run={trained[0]}", f"--data={tmp_path / 't.jsonl'}"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_per_target": 0}, r"o\.source_per_target=0: allowed is 1 to 256"),
        ({"long_sources": "drop"}, r"o\.long_sources='drop': allowed: leave_out, cut"),
        ({"search": Search(beams=0)}, r"o\.search\.beams=0 is out of range"),
        ({"search": Search(beams=2, n_best=2)}, r"o\.search\.n_best=2: a source has one answer"),
    ],
)
def test_settings_that_cannot_work_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(OBJECTIVE, **change).validate("o")
    with pytest.raises(UserError, match=r"length=5: with source_per_target=3 .* Use at least 6"):
        OBJECTIVE.check_length(5, VOCABULARY, "length")
    with pytest.raises(UserError, match=r"no pair of the split fits: 1 pairs.* \(of a target 7\)"):
        batches([[3, 8]], OBJECTIVE, "none")
    with pytest.raises(UserError, match=r"says nothing"):
        Prefix(text=" ").validate("steps[0]")


def test_the_built_in_pairs_are_pairs():
    from jaxlm.data.corpus import builtin_pairs
    from jaxlm.data.corpus.corpus import Corpus, open_source

    document = f"Return the mean of it.\n\n{'More is said of get_file_name and HTTPServerError here. ' * 3}"
    body, summary = next(builtin_pairs.summaries(iter([document])))
    assert summary == "Return the mean of it." and body.startswith("More is said")
    assert list(builtin_pairs.names(iter([document, document]))) == [
        ("get_file_name", "get file name"),
        ("HTTPServerError", "http server error"),
    ]
    one = Corpus(source="builtin:pydocs_names", validation_share=0.0, test_share=0.0)
    with pytest.raises(UserError, match=r"its records are two texts.*text_fields=\('source', 'target'\)"):
        open_source(one, "unused", print)
