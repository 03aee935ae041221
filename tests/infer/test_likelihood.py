"""Claims about log-probabilities of texts: transformers' token by token, masked one by one, in windows, and what tasks make of them."""

import json
import math

import numpy as np
import pytest

import jaxlm
from jaxlm.commands import evaluate, predict
from jaxlm.data import tokenizer
from jaxlm.errors import UserError
from jaxlm.infer import likelihood
from jaxlm.tasks import of, table
from jaxlm.tasks.in_context import _continued
from jaxlm.tasks.setup import Setup
from tests.infer.test_logits_parity import TEXTS, TOKENIZERS, theirs

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
LONG = " ".join(TEXTS * 6)


def folder(name, place):
    trained = tokenizer.train(TOKENIZERS[name], [*TEXTS, str(np.linalg.svd.__doc__)] * 5)
    torch.manual_seed(1)
    hf = theirs(name, trained.vocabulary).eval()
    hf.resize_token_embeddings(trained.vocabulary.size)  # what is generated is a token
    with torch.no_grad():
        for weight in hf.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    hf.save_pretrained(place)
    trained.save(place)
    return jaxlm.load(f"hf:{place}"), hf


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return folder("GPT-2", tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return folder("BERT", tmp_path_factory.mktemp("bert"))


def log_p(hf, row):
    """Of every token but the first, by torch."""
    with torch.no_grad():
        shares = hf(input_ids=torch.tensor([row])).logits[0].double().log_softmax(-1)
    return shares[:-1].gather(1, torch.tensor(row[1:])[:, None])[:, 0].numpy(), shares.argmax(-1)[:-1].numpy()


def test_a_decoder_scores_each_token_from_those_before_it(decoder):
    ours, hf = decoder
    start = likelihood.before(ours)
    assert start == (ours.tokenizer.vocabulary.bos,)
    rows = [[*start, *ours.tokenizer.encode_marked(text)] for text in [*TEXTS, LONG[:300]]]
    for row, found in zip(rows, likelihood.followed(ours, rows), strict=True):
        expected, best = log_p(hf, row)
        np.testing.assert_allclose(found.log_p, expected, atol=1e-4)
        assert found.likeliest.tolist() == (best == row[1:]).tolist()


def test_a_masked_model_scores_each_token_from_all_others(encoder):
    ours, hf = encoder
    v = ours.tokenizer.vocabulary
    for text, (ids, found) in zip(TEXTS, likelihood.masked(ours, TEXTS), strict=True):
        row = [v.cls, *ours.tokenizer.encode_marked(text), v.sep]
        assert ids == row[1:-1]
        for k in range(1, len(row) - 1):
            with torch.no_grad():
                logits = hf(input_ids=torch.tensor([[*row[:k], v.mask, *row[k + 1 :]]])).logits[0, k]
            assert found[k - 1] == pytest.approx(float(logits.log_softmax(-1)[row[k]]), abs=1e-4)


@pytest.mark.parametrize(("window", "stride"), [(16, 4), (16, 15), (7, 3), (50, 25), (2, 1)])
def test_windows_score_every_token_once_with_enough_before_it(window, stride):
    seen = []
    for first, end, scored in likelihood.windows(41, window, stride):
        assert end - first <= window and first < scored < end
        assert scored - first >= (window - stride if seen else 1)
        seen += range(scored, end)
    assert seen == list(range(1, 41))


def test_perplexity_is_that_of_its_windows_and_bits_are_those_of_bytes(decoder, tmp_path, capsys):
    ours, hf = decoder
    (tmp_path / "text.txt").write_text(LONG)
    words = ["evaluate", f"--run={ours.where}", "--task=perplexity", f"--data={tmp_path}/text.txt"]
    assert evaluate.main([*words, "--window=24", "--stride=8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    row = [*likelihood.before(ours), *ours.tokenizer.encode_marked(LONG)]
    total, done = 0.0, 1
    while done < len(row):  # the definition: 24 tokens, then 8 more each time, from the 24 that end there
        end = min(24 if done == 1 else done + 8, len(row))
        total += log_p(hf, row[max(0, end - 24) : end])[0][done - end :].sum()
        done = end
    assert found["perplexity"]["value"] == pytest.approx(math.exp(-total / (len(row) - 1)), rel=1e-4)
    assert found["bits_per_byte"]["value"] == pytest.approx(-total / math.log(2) / len(LONG), rel=1e-4)
    assert found["perplexity"]["low"] < found["perplexity"]["value"] < found["perplexity"]["high"]


def test_pairs_are_preferred_by_the_sums_and_only_shared_tokens_count_if_asked(
    decoder, encoder, tmp_path, capsys
):
    pairs = [
        {"good": "the cat sat on the mat", "bad": "the dog sat on the mat"},
        {"good": "a dog", "bad": "a red"},
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    ours, hf = decoder
    sums = [
        [
            log_p(hf, [*likelihood.before(ours), *ours.tokenizer.encode_marked(text)])[0].sum()
            for text in one.values()
        ]
        for one in pairs
    ]
    words = [f"--run={ours.where}", "--task=minimal_pairs"]
    assert predict.main(["predict", *words, f"--input={path}"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose([one["log_p"] for one in found], sums, rtol=1e-5)
    assert evaluate.main(["evaluate", *words, f"--data={path}", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"]
    assert accuracy == np.mean([a > b for a, b in sums])
    model, _ = encoder
    task = of.of(model, max_new_tokens=8, setup=Setup(task="minimal_pairs", shared=True))
    (whole_a, log_a), (whole_b, log_b) = likelihood.masked(model, list(pairs[1].values()))
    same = [i for i, (a, b) in enumerate(zip(whole_a, whole_b, strict=False)) if a == b]
    assert 0 < len(same) < len(whole_a)
    found = task.ask([tuple(pairs[1].values())])[0]
    np.testing.assert_allclose(found, [log_a[same].sum(), log_b[same].sum()], rtol=1e-5)


ROWS = [
    {"text": "the cat sat on", "choices": ["the mat", "a dog", "it"], "label": 1},
    {"text": "the garden has", "choices": ["a red door", "it", "mat"], "label": 0},
]


@pytest.mark.parametrize(
    ("which", "normalise"),
    [("encoder", "none"), *(("decoder", how) for how in ("none", "tokens", "characters", "unconditional"))],
)
def test_choices_are_scored_behind_the_prompt_and_normalised(request, which, normalise):
    ours, hf = request.getfixturevalue(which)
    setup = Setup(task="choice", template="{text} now", normalise=normalise)
    task = of.of(ours, max_new_tokens=8, setup=setup)
    records = [task.record(row, "t:1", 1) for row in ROWS]
    answered = table.answered(task, records)
    for row, scores in zip(ROWS, answered.asked, strict=True):
        for choice, score in zip(row["choices"], scores, strict=True):
            prompt, whole = f"{row['text']} now", f"{row['text']} now {choice}"
            size = len(ours.tokenizer.encode_marked(prompt))
            if which == "encoder":
                assert score == pytest.approx(likelihood.masked(ours, [whole])[0][1][size:].sum(), rel=1e-4)
                continue
            start, encode = likelihood.before(ours), ours.tokenizer.encode_marked
            own = log_p(hf, [*start, *encode(whole)])[0][size:]
            alone = log_p(hf, [*start, *encode(f" {choice}")])[0].sum()
            expected = {"none": own.sum(), "tokens": own.mean(), "characters": own.sum() / len(choice)}
            assert score == pytest.approx(expected.get(normalise, own.sum() - alone), rel=1e-4)
    hits = [int(np.argmax(scores)) == row["label"] for row, scores in zip(ROWS, answered.asked, strict=True)]
    assert answered.measured().metrics["accuracy"].value == np.mean(hits)


def test_shots_are_drawn_by_the_seed_and_stand_before_the_prompt(decoder, tmp_path):
    ours, _ = decoder
    path = tmp_path / "train.jsonl"
    rows = [{"text": f"the mat {k}", "label": "ab"[k % 2]} for k in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"task": "choice", "choices": ("a", "b"), "shots": 2, "shots_from": str(path)}
    drawn = {seed: Setup(**asked, seed=seed).examples() for seed in range(4)}
    assert len(set(drawn.values())) > 1 and drawn[0] == Setup(**asked).examples()
    lines = drawn[0].split("\n\n")
    assert len(lines) == 3 and all(
        f"{row['text']} {row['label']}" in drawn[0] for row in rows if row["text"] in drawn[0]
    )
    task = of.of(ours, max_new_tokens=8, setup=Setup(**asked))
    expected = _continued(ours, [(f"{drawn[0]}the cat", f" {choice}") for choice in "ab"])[0]
    np.testing.assert_allclose(task.ask([("the cat",)])[0], expected, rtol=1e-6)
    assert task.answer([("the cat",)], [expected])[0]["predicted"] == "ab"[int(expected.argmax())]


def test_a_completion_is_what_is_generated_to_the_end_of_the_line(decoder, tmp_path, capsys):
    ours, _ = decoder
    written = ours.generate([f"{'<|endoftext|>'}the cat"], max_new_tokens=6, stop=("\n",))[0].text.strip()
    rows = [{"text": "the cat", "label": written}, {"text": "the cat", "label": "never said"}]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"--run={ours.where}", "--task=completion", "--max-new-tokens=6", f"--data={path}", "--json"]
    assert evaluate.main(["evaluate", *words]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["exact"]["value"] == 0.5


@pytest.mark.parametrize(
    ("row", "changed", "message"),
    [
        (
            {"text": "a", "label": 7, "choices": ["x", "y"]},
            {},
            r"t:1: the right answer 7 is none of the choices \(x, y\)",
        ),
        ({"text": "a", "label": 0}, {}, r't:1: field "choices" must be a list of texts. Fix: --choices='),
        ({"review": "a", "label": 0}, {"choices": ("x", "y")}, r't:1: field "text" of --template is no text'),
        ({"text": "a"}, {"template": "no field"}, "--template='no field': it names fields"),
        ({"text": "a"}, {"task": "perplexity", "window": 1}, "--window=1: two tokens or more"),
        ({"text": "a"}, {"shots": 2}, "--shots=2: name the table that they are drawn from"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(decoder, row, changed, message):
    with pytest.raises(UserError, match=message):
        of.of(decoder[0], max_new_tokens=8, setup=Setup(**{"task": "choice", **changed})).record(
            row, "t:1", 1
        )
