"""The tokenizer of several corpora: that of their samples together, by weight, and found again."""

import json

import pytest

from jaxlm.data import tokenizer
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.steps import Clean
from jaxlm.data.shards import prepare, trained
from jaxlm.data.tokenizer import Pretrained, WordPiece
from jaxlm.errors import UserError

CONFIG = WordPiece(vocab_size=110, lowercase=True)
WORDS = {"a": ["bat", "cat", "rattle", "battle"], "b": ["dough", "tough", "though  through"]}


def corpora(tmp_path, **settings):
    made = []
    for name, words in WORDS.items():
        path = tmp_path / f"{name}.jsonl"
        texts = [f"{i} " + " ".join(words[(i * k) % len(words)] for k in range(9)) for i in range(300)]
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        made.append((texts, Corpus(source=str(path), validation_share=0.2, test_share=0.0, **settings)))
    return made


def made(found, tmp_path, *weights, lines=None):
    config = trained.of_corpora(
        [text for _, text in found], lambda sizes: weights or sizes, CONFIG, tmp_path / "cache", (lines or []).append
    )  # fmt: skip
    assert isinstance(config, Pretrained)
    return tokenizer.load(config.path)


def test_each_gives_its_share_of_the_sample_by_weight(tmp_path, monkeypatch):
    monkeypatch.setattr(WordPiece, "sample_bytes", 8000)
    found = corpora(tmp_path)
    sample = []
    for (texts, text), limit in zip(found, (6000, 2000), strict=True):
        for one in texts:
            sample += [one] if text.split(Record((one,))) == "train" else []
            limit -= len(one)
            if limit <= 0:
                break
    assert made(found, tmp_path, 3.0, 1.0).fingerprint == CONFIG.make(sample).fingerprint
    assert made(found, tmp_path, 1.0, 3.0).fingerprint != CONFIG.make(sample).fingerprint


def test_small_ones_are_taken_whole_and_steps_count(tmp_path):
    found = corpora(tmp_path, steps=(Clean(),))
    sample = [" ".join(one.split()) for texts, text in found for one in texts]
    sample = [one for one in sample if found[0][1].split(Record((one,))) == "train"]
    lines = [""]
    one, other = made(found, tmp_path, lines=lines), made(found, tmp_path, lines=lines)
    assert one.fingerprint == other.fingerprint == CONFIG.make(sample).fingerprint
    assert "ough" in "".join(one.pieces) and "attle" in "".join(one.pieces)
    assert sum("training" in line for line in lines) == 1
    two = [prepare.prepare(text, Pretrained(path=made(found, tmp_path).name), sentences=False, cache=tmp_path / "cache",
                           processes=1, log=lambda _: None) for _, text in found]  # fmt: skip
    assert {ready.tokenizer.fingerprint for ready in two} == {one.fingerprint}


def test_nothing_is_trained_where_there_is_nothing_to_train(tmp_path):
    (_, one), (_, two) = corpora(tmp_path)
    ready = prepare.prepare(one, CONFIG, sentences=False, cache=tmp_path / "c", output=tmp_path / "out", processes=1, log=lambda _: None)  # fmt: skip
    folder = Corpus(source=str(ready.directory), validation_share=0.2, test_share=0.0)
    own = Pretrained(path=str(ready.directory))
    for texts, config in (([one], CONFIG), ([folder, two], CONFIG), ([one, two], own)):
        assert trained.of_corpora(texts, list, config, tmp_path, print) is config
    assert not (tmp_path / "tokenizers").exists()
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(UserError, match=r"b\.jsonl: holds no documents"):
        made([([], one), ([], two)], tmp_path)
