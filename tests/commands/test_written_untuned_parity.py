"""Claim: what a Hugging Face encoder-decoder writes is measured as transformers' own texts would be, however looked for."""

import csv
import json

import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import sacrebleu
import torch
import transformers
from rouge_score.rouge_scorer import RougeScorer

from jaxlm.commands import evaluate, predict
from jaxlm.errors import UserError
from tests.exchange import transformers_folders

SOURCES = transformers_folders.SENTENCES[:6]
NEW = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of random weights; it says no sentinel, nor an entry without a token, which transformers leaves out of a text."""
    torch.manual_seed(5)
    place = transformers_folders.save("t5", tmp_path_factory.mktemp("folders"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(place)
    words = [id for token, id in tokenizer.get_vocab().items() if token[0] not in "<["]
    model.shared.weight.data[[id for id in range(model.config.vocab_size) if id not in words]] = 0.0
    model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def theirs(folder):
    """Texts of greedy decoding, and of a search with 3 beams."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    texts = {}
    for beams in (1, 3):
        how = {"num_beams": beams, "max_new_tokens": NEW, "do_sample": False, "length_penalty": 0.6}
        ids = [model.generate(**tokenizer(f"say: {s}", return_tensors="pt"), **how)[0] for s in SOURCES]
        texts[beams] = [tokenizer.decode(one, skip_special_tokens=True).strip() for one in ids]
    return texts


@pytest.fixture
def table(tmp_path, theirs):
    """Right answers that share words with what is written, so that no score is 0 or 100."""
    right = [f"{text} {source}" for text, source in zip(theirs[1], reversed(SOURCES), strict=True)]
    with (tmp_path / "pairs.csv").open("w") as stream:
        csv.writer(stream).writerows([("en", "de"), *zip(SOURCES, right, strict=True)])
    return tmp_path / "pairs.csv", right


def measured(folder, table, *words, capsys):
    fixed = [f"--run=hf:{folder}", f"--data={table}", "--template=say: {en}", "--answer=de", "--folder="]
    assert evaluate.main(["evaluate", *fixed, f"--max-new-tokens={NEW}", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]
    return {name: one["value"] for name, one in found.items()}


@pytest.mark.parametrize("beams", [1, 3])
def test_translations_have_sacrebleus_scores_of_transformers_texts(folder, table, theirs, beams, capsys):
    path, right = table
    words = ["--task=translation", f"--beams={beams}", "--length-penalty=0.6"]
    found = measured(folder, path, *words, capsys=capsys)
    written = theirs[beams]
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [right]).score, abs=1e-6)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [right]).score, abs=1e-6)
    assert 0 < found["chrf"] < 100


def test_summaries_have_rouge_scores_of_transformers_texts(folder, table, theirs, capsys):
    path, right = table
    found = measured(folder, path, "--task=summarisation", capsys=capsys)
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    expected = [scorer.score(r, w)["rouge1"].fmeasure for r, w in zip(right, theirs[1], strict=True)]
    assert found["rouge1"] == pytest.approx(100 * sum(expected) / len(expected), abs=1e-6)


def test_without_a_task_it_writes_and_the_search_is_obeyed(folder, theirs, tmp_path, capsys):
    path = tmp_path / "new.txt"
    path.write_text("".join(f"say: {source}\n" for source in SOURCES))
    words = [f"--run=hf:{folder}", f"--input={path}", f"--max-new-tokens={NEW}", "--json"]
    assert predict.main(["predict", *words, "--beams=3", "--length-penalty=0.6"]) == 0
    out = capsys.readouterr()
    answers = [json.loads(line)["answer"].strip() for line in out.out.splitlines()]
    assert answers == theirs[3] != theirs[1]
    assert "a search with 3 beams" in out.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task=translation", "--answer=fr"], r'pairs.csv:2: field "fr", the right answer, is missing'),
        (["--task=translation", "--beams=0"], "--beams=0 is out of range"),
        (["--task=perplexity", "--beams=2", "--template={en}"], "--beams is of a model that writes"),
    ],
)
def test_what_cannot_be_measured_is_refused(folder, table, words, message):
    with pytest.raises(UserError, match=message):
        evaluate.main(["evaluate", f"--run=hf:{folder}", f"--data={table[0]}", "--template={en}", *words])
