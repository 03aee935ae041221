"""The tokenizers that jaxlm trains, exported: AutoTokenizer gives the ids that training saw, special tokens included."""

import pytest

from jaxlm.data.tokens import byte_bpe, sentencepiece_model, wordpiece
from jaxlm.exchange import tokenizer_files

transformers = pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

TEXTS = [
    "The cat sat on the mat, and the dog barked.",
    "naïve café — 日本語  two  spaces 12345",
    "it's a test; x=3.14 isn't it?",
    " leading and trailing ",
    "ﬁne ﬀ ① Ⅷ Ｆｕｌｌ",
]
CORPUS = [*TEXTS, "the quick brown fox jumps over the lazy dog again and again"] * 30
KINDS = {
    "WordPiece": lambda: wordpiece.train(CORPUS, 200, True),
    "ByteBpe": lambda: byte_bpe.train(CORPUS, 320, 3, "off"),
    "Unigram": lambda: sentencepiece_model.train(CORPUS, 70, "unigram", 0),
    "Bpe": lambda: sentencepiece_model.train(CORPUS, 120, "bpe", 0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_autotokenizer_gives_the_ids_of_training(tmp_path, kind, causal):
    ours = KINDS[kind]()
    ours.save(tmp_path)
    files = tokenizer_files.of_folder(tmp_path)
    for name, content in tokenizer_files.for_transformers(
        files, "x", causal=causal, types=True, length=77
    ).items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 77
    v = ours.vocabulary
    for text in TEXTS:
        bare = list(map(int, ours.encode(text)))
        assert theirs(text, add_special_tokens=False)["input_ids"] == bare, text
        if causal or (v.cls < 0 and v.eos < 0):
            expected = bare
        elif v.mask >= 0:
            expected = [v.cls, *bare, v.sep]
        else:
            expected = [*bare, v.eos]
        assert theirs(text)["input_ids"] == expected
    for role in ("pad", "mask", "cls", "sep"):
        if (id := getattr(v, role)) >= 0 and not (role == "pad" and id == v.eos):
            assert getattr(theirs, f"{role}_token_id") == id, role


def test_a_pair_has_the_types_of_its_texts(tmp_path):
    ours = KINDS["WordPiece"]()
    ours.save(tmp_path)
    for name, content in tokenizer_files.for_transformers(
        tokenizer_files.of_folder(tmp_path), "x", causal=False, types=True, length=9
    ).items():
        (tmp_path / name).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)("the cat", "a dog")
    v = ours.vocabulary
    a, b = list(ours.encode("the cat")), list(ours.encode("a dog"))
    assert theirs["input_ids"] == [v.cls, *a, v.sep, *b, v.sep]
    assert theirs["token_type_ids"] == [0] * (len(a) + 2) + [1] * (len(b) + 1)


def test_files_that_came_with_their_settings_go_out_as_they_are():
    files = {
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer"}',
        "vocab.txt": b"a\r\n",
    }
    assert tokenizer_files.for_transformers(files, "x", causal=False, types=True, length=9) == files
