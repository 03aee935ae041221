"""Parity with Hugging Face: ids of a vocab.txt are BertTokenizerFast's, of vocab.json and merges.txt GPT2TokenizerFast's."""

import json
import random
import sysconfig
from pathlib import Path

import pytest

from jaxlm.data import tokenizer

transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "Héllo, wörld! Ünïcödé — “quotes” … naïve café",
    "中文字符 mixed with English and 日本語 カタカナ",
    "tabs\tand\nnewlines\r\nand\u00a0non-breaking \u200bzero width \x00\x07 control \ufffd",
    "emoji 😀👍🏽 and symbols ™ © ½ Ⅷ ﬁ",
    "don't can't it's 3.14 $5 50% a@b.c https://x.y/z?q=1#f",
    "x" * 120 + " antidisestablishmentarianism",
    "ΑΒΓ абв İstanbul ß STRASSE",
    "",
    "   ",
]


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_equal_bert_tokenizer_fast(tmp_path, lowercase):
    source = Path(sysconfig.get_paths()["stdlib"], "pydoc_data", "topics.py").read_text(encoding="utf-8")
    texts = [*TEXTS, *(source[start : start + 997] for start in range(0, 200_000, 997))]
    made = tokenizer.train(tokenizer.WordPiece(vocab_size=2003, lowercase=lowercase), texts)
    (tmp_path / "vocab.txt").write_text("\n".join(made.pieces) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": lowercase, "tokenizer_class": "BertTokenizer"})
    )
    reference = transformers.BertTokenizerFast.from_pretrained(str(tmp_path))
    ours = tokenizer.load(tmp_path / "vocab.txt")
    rng = random.Random(3)
    noise = [
        "".join(chr(rng.choice([rng.randrange(1, 0x2FF), rng.randrange(0x2000, 0xD7FF)])) for _ in range(61))
        for _ in range(50)
    ]
    for text in [*texts, *noise]:
        assert ours.encode(text) == reference.encode(text, add_special_tokens=False), repr(text)


def test_saved_tokenizer_opens_in_transformers_and_adds_cls_and_sep(tmp_path):
    made = tokenizer.train(tokenizer.WordPiece(vocab_size=211, lowercase=True), TEXTS * 9)
    made.save(tmp_path)
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert reference.encode("the fox") == [2, *made.encode("the fox"), 3]


def _compare_with_gpt2(folder: Path, texts: list[str]) -> None:
    ours = tokenizer.load(folder / "vocab.json")
    reference = transformers.GPT2TokenizerFast.from_pretrained(str(folder))
    rng = random.Random(5)
    noise = ["".join(chr(rng.randrange(1, 0xD7FF)) for _ in range(41)) for _ in range(50)]
    for text in [*texts, *noise]:
        assert ours.encode(text) == reference.encode(text, add_special_tokens=False), repr(text)
        assert ours.decode(ours.encode(text)) == text


def test_ids_equal_gpt2_tokenizer_fast(tmp_path):
    source = Path(sysconfig.get_paths()["stdlib"], "pydoc_data", "topics.py").read_text(encoding="utf-8")
    texts = [*TEXTS, *(source[start : start + 991] for start in range(0, 200_000, 991))]
    made = tokenizer.train(tokenizer.ByteBpe(vocab_size=1999, sentinels=0, infill="off"), texts)
    model = json.loads(made.text)["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(model["merges"]) + "\n", encoding="utf-8"
    )
    _compare_with_gpt2(tmp_path, texts)
