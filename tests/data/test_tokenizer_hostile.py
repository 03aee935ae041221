"""Claims about tokenizers of strangers: what would fill the memory, panic or end the process is refused by name."""

import base64
import json

import pytest

from jaxlm.data import tokenizer
from jaxlm.data.tokens import normalization, spiece_json
from jaxlm.data.tokens.json_tokenizer import JsonTokenizer
from jaxlm.errors import Damaged, UserError

WORDS = {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}


def made(**parts) -> JsonTokenizer:
    """A tokenizer.json of two words with other parts."""
    return JsonTokenizer(json.dumps({"version": "1.0", "added_tokens": [], "model": WORDS} | parts), "t.json")


def added(id: int) -> dict:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": "<x>", "special": True, **flags}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"model": WORDS | {"vocab": {"a": 0, "[UNK]": 4294967295}}},
            "2 pieces have ids of up to 4294967295",
        ),
        ({"model": WORDS | {"vocab": {}}}, "0 pieces have ids"),
        (
            {
                "model": {"type": "BPE", "vocab": {"a": 0, "Ġ": 1, "aĠ": 2}, "merges": ["a Ġ"]}
                | {"continuing_subword_prefix": "x"}
            },
            "the merge 'a Ġ' does not go on with 'x'",
        ),
        ({"model": None}, "not a readable tokenizer.json"),
        (
            {"normalizer": {"type": "Prepend", "prepend": "x" * 10_000}},
            "normalizer makes 10001 characters of one",
        ),
        (
            {
                "normalizer": {
                    "type": "Sequence",
                    "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"}]
                    * 9,
                }
            },
            "normalizer makes 1000000000 characters of one",
        ),
        (
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AA=="}},
            "table of normalisation is cut",
        ),
    ],
)
def test_a_tokenizer_json_that_lies_is_refused(parts, message):
    with pytest.raises(UserError, match=f"tokenizer t.json: .*{message}"):
        made(**parts)


def test_what_the_library_finds_out_while_it_encodes_is_a_refusal():
    explodes = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    with pytest.raises(UserError, match=r"tokenizer t.json: cannot encode a text: PanicException"):
        made(pre_tokenizer=explodes).encode("a" * 40 + "!")
    with pytest.raises(UserError, match=r"tokenizer t.json: cannot encode a text: .*Missing"):
        made(model=WORDS | {"unk_token": "<nothing>"}).encode("b")


def test_the_ids_of_special_tokens_are_those_of_the_library_not_of_the_file():
    assert made(added_tokens=[added(2)]).control_ids() == {2}
    assert made(added_tokens=[added(4294967295)]).control_ids() == {2}


def test_a_damaged_table_of_normalisation_is_refused_and_a_published_one_is_taken(tmp_path):
    texts = [f"the cat number {i} sat on a ﬁne mat of {i * 7919}" for i in range(200)]
    tokenizer.train(tokenizer.Unigram(vocab_size=100, sentinels=0), texts).save(tmp_path)
    config = spiece_json.convert((tmp_path / "tokenizer.model").read_bytes(), "a")
    table = base64.b64decode(config["normalizer"]["normalizers"][0]["precompiled_charsmap"])
    normalization.check_table(table)
    size = int.from_bytes(table[:4], "little")
    far = table[:4] + b"\xff\xff\xff\x7f" + table[8:]
    for broken, message in (
        (table[:-1], "is cut"),
        ((2**31 - 1).to_bytes(4, "little") + table[4:], "is cut"),
        (far, "leads out of itself"),
        (table[: 4 + size] + b"\0", "has a value without a text"),
    ):
        with pytest.raises(Damaged, match=message):
            normalization.check_table(broken)


def test_settings_beside_a_tokenizer_that_are_no_object_are_refused_by_name(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n")
    for settings in ("{", "[]"):
        (tmp_path / "tokenizer_config.json").write_text(settings)
        with pytest.raises(UserError, match=r"tokenizer settings .*tokenizer_config\.json: cannot be read"):
            tokenizer.load(tmp_path)


def test_an_empty_model_and_ids_of_a_small_vocabulary_beyond_all_pieces_are_refused(tmp_path):
    (tmp_path / "x.model").write_bytes(b"")
    with pytest.raises(UserError, match=r"x\.model: not a readable SentencePiece model"):
        tokenizer.load(tmp_path / "x.model")
    (tmp_path / "vocab.json").write_text('{"a": 4294967295}')
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(UserError, match=r"vocab\.json: .*1 pieces have ids of up to 4294967295"):
        tokenizer.load(tmp_path / "vocab.json")
