"""Tokenizers: training is deterministic, text cannot forge special tokens, every kind of file loads, errors explain."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxlm.data import tokenizer
from jaxlm.data.tokens import sentencepiece_model, wordpiece
from jaxlm.errors import UserError

CONFIGS = {
    "uncased": tokenizer.WordPiece(vocab_size=613, lowercase=True),
    "cased": tokenizer.WordPiece(vocab_size=607, lowercase=False),
    "unigram": tokenizer.Unigram(vocab_size=401, sentinels=0),
    "bpe": tokenizer.Bpe(vocab_size=409, sentinels=0),
}
WITH_ROLES = {
    "bytes": tokenizer.ByteBpe(vocab_size=467, sentinels=3, infill="on"),
    "unigram": tokenizer.Unigram(vocab_size=419, sentinels=7),
    "bpe": tokenizer.Bpe(vocab_size=421, sentinels=1),
}
TRICKY = "Héllo wörld's [MASK] running\n\n 中文 😀 don't\u0000 [SEP] ﬁne  naïve\u200b Ⅷ"


@pytest.fixture(scope="module")
def texts():
    import argparse
    import difflib

    sources = [
        argparse.ArgumentParser.__doc__,
        difflib.__doc__,
        difflib.SequenceMatcher.__doc__,
        difflib.Differ.__doc__,
    ]
    documents = [text for text in sources if text] + [TRICKY]
    lines = Path(difflib.__file__).read_text(encoding="utf-8").splitlines()
    return documents + [line.strip() for line in lines if len(line.split()) > 5]


@pytest.fixture(scope="module")
def trained(texts):
    return {name: tokenizer.train(config, texts) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_texts_give_the_same_fingerprint(trained, texts, name):
    for _ in range(3):  # the library alone differs between runs
        assert tokenizer.train(CONFIGS[name], texts).fingerprint == trained[name].fingerprint
    assert tokenizer.train(CONFIGS[name], texts[: len(texts) // 2]).fingerprint != trained[name].fingerprint


def test_training_in_another_process_gives_the_same_fingerprint(trained, texts, tmp_path):
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    code = (
        "import json, sys; from jaxlm.data import tokenizer;"
        "texts = json.load(open(sys.argv[1]));"
        "print(tokenizer.train(tokenizer.WordPiece(vocab_size=613, lowercase=True), texts).fingerprint)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "texts.json")], check=True, capture_output=True, text=True
    )
    assert said.stdout.split()[-1] == trained["uncased"].fingerprint


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_is_the_same_tokenizer(trained, texts, name, tmp_path):
    made = trained[name]
    made.save(tmp_path)
    for again in (tokenizer.load(tmp_path), pickle.loads(pickle.dumps(made))):
        assert again.fingerprint == made.fingerprint and again.pieces == made.pieces
        assert all(map(np.array_equal, again.encode_batch(texts), made.encode_batch(texts)))
    assert tokenizer.train(tokenizer.Pretrained(path=str(tmp_path)), ()).fingerprint == made.fingerprint


@pytest.mark.parametrize("name", CONFIGS)
def test_batches_offsets_and_single_texts_agree(trained, texts, name):
    made = trained[name]
    for text, ids, (again, offsets) in zip(
        texts, made.encode_batch(texts), made.encode_batch_with_offsets(texts), strict=True
    ):
        assert ids.tolist() == again.tolist() == made.encode(text)
        assert ids.dtype == np.int32 and offsets.shape == (len(ids), 2)
        assert (np.diff(offsets[:, 0]) >= 0).all() and (offsets <= len(text)).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_offsets_are_characters_of_the_text(trained, name):
    made = trained[name]
    text = "中文 naïve text [SEP] the difference"
    ids, offsets = made.encode_batch_with_offsets([text])[0]
    covered = "".join(text[start:end] for start, end in offsets)
    assert covered.replace(" ", "") == text.replace(" ", "")
    by_piece = [
        (made.token(id).replace("##", "").replace("▁", ""), text[a:b].strip())
        for id, (a, b) in zip(ids, offsets, strict=True)
    ]
    assert all(
        piece.lower() == part.lower()
        for piece, part in by_piece
        if piece.isascii() and piece[:1] != "[" and part.isascii()
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_text_never_gives_a_special_token_but_a_marked_prompt_does(trained, name):
    made = trained[name]
    special = made.vocabulary.special_V
    text = "the [MASK] of [SEP] a [CLS] and [PAD]"
    assert not special[made.encode(text)].any()
    marked = made.encode_marked(text)
    assert [id for id in marked if special[id]] == [
        made.special(role) for role in ("mask", "sep", "cls", "pad")
    ]


@pytest.mark.parametrize("name", CONFIGS)
def test_vocabulary_has_the_special_tokens_first(trained, name):
    vocabulary = trained[name].vocabulary
    assert (vocabulary.pad, vocabulary.unk, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert vocabulary.special_V.tolist() == [True, False, True, True, True] + [False] * (vocabulary.size - 5)
    assert vocabulary.size == CONFIGS[name].vocab_size == len(vocabulary.continues_V)


@pytest.mark.parametrize("name", CONFIGS)
def test_continuing_pieces_are_those_inside_a_word(trained, name):
    made = trained[name]
    ids = made.encode("differences, unbelievable")
    continues = made.vocabulary.continues_V[ids]
    offsets = made.encode_batch_with_offsets(["differences, unbelievable"])[0][1]
    spaced = [text.strip() for text in ("differences, unbelievable"[start:end] for start, end in offsets)]
    for piece, inside, (_, end) in zip(spaced, continues, offsets, strict=True):
        assert inside == (piece not in ("", ",") and end not in (len(spaced[0]), 13 + len(piece)))
    assert not continues[0]


def test_wordpiece_is_berts(trained):
    uncased, cased = trained["uncased"], trained["cased"]
    assert [uncased.token(id) for id in uncased.encode("THE the Thé")] == ["the"] * 3
    assert len({cased.token(id) for id in cased.encode("the The")}) == 2
    text = "the, (the)"
    assert [uncased.token(id) for id in uncased.encode(text)] == ["the", ",", "(", "the", ")"]
    assert uncased.encode("\u2603 the") == [1, *uncased.encode("the")]  # a snowman is unknown
    assert uncased.encode("the" * 34) == [1]  # longer than 100 characters
    assert uncased.decode(uncased.encode("the difference , the")) == "the difference, the"


def test_vocab_txt_gives_the_tokenizer_it_came_from(trained, tmp_path):
    for name in ("uncased", "cased"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join(trained[name].pieces) + "\n", encoding="utf-8")
        assert tokenizer.load(folder).fingerprint == trained[name].fingerprint
        assert tokenizer.load(folder / "vocab.txt").fingerprint == trained[name].fingerprint
    (tmp_path / "cased" / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert tokenizer.load(tmp_path / "cased").fingerprint != trained["cased"].fingerprint


def test_roberta_names_are_understood_and_byte_pieces_continue(tmp_path):
    from tokenizers import ByteLevelBPETokenizer

    library = ByteLevelBPETokenizer()
    library.train_from_iterator(
        ["the cat sat on the mat, the cat"] * 9,
        300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )
    library.save(str(tmp_path / "tokenizer.json"))
    made = tokenizer.load(tmp_path)
    vocabulary = made.vocabulary
    assert (vocabulary.cls, vocabulary.pad, vocabulary.sep, vocabulary.unk, vocabulary.mask) == (
        0,
        1,
        2,
        3,
        4,
    )
    assert vocabulary.special_V.nonzero()[0].tolist() == [0, 1, 2, 4]
    ids = made.encode("the zoo, the cat")
    assert made.decode(ids) == "the zoo, the cat"
    words = [made.token(id) for id in ids]
    for word, inside in zip(words, vocabulary.continues_V[ids], strict=True):
        assert inside == (not word.startswith("Ġ") and word != ",")
    assert made.encode_marked("the <mask>")[-1] == 4 and 4 not in made.encode("the <mask>")


def test_truncation_and_padding_of_a_file_do_not_apply(trained, tmp_path):
    config = json.loads(trained["uncased"].text)
    config["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    config["padding"] = {
        **{"strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(config))
    made = tokenizer.load(tmp_path)
    assert made.encode(TRICKY) == trained["uncased"].encode(TRICKY)
    assert made.fingerprint == trained["uncased"].fingerprint


def test_a_missing_special_token_is_named(trained, tmp_path):
    pieces = [piece for piece in trained["uncased"].pieces if piece not in ("[MASK]", "[CLS]")]
    made = wordpiece.make(pieces, True, "mine/vocab.txt")
    assert made.encode("the")  # encoding needs none of them
    assert (made.vocabulary.mask, made.vocabulary.cls) == (-1, -1)
    with pytest.raises(UserError, match=r"masked LM needs .* mask, cls.*has no mask, no cls"):
        made.vocabulary.require("masked LM", "mask", "cls", "sep")
    with pytest.raises(UserError, match=r"no \[UNK\]"):
        wordpiece.make(["a", "b"], True, "mine")


def test_sentencepiece_models_of_others_load(tmp_path, texts):
    import sentencepiece

    prefix = str(tmp_path / "spiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=prefix, vocab_size=203, model_type="bpe", minloglevel=2,
        hard_vocab_limit=False, pad_id=3, control_symbols=["<mask>"],
    )  # fmt: skip
    made = tokenizer.load(tmp_path)
    vocabulary = made.vocabulary
    pieces = [
        made.token(id)
        for id in (vocabulary.cls, vocabulary.sep, vocabulary.unk, vocabulary.pad, vocabulary.mask)
    ]
    assert pieces == ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]


def test_what_cannot_be_loaded_says_why(tmp_path):
    cases = {
        "none": "no such file or folder",
        "a.bin": "unknown kind",
        "tokenizer.json": "not a readable tokenizer.json",
        "a.model": "not a readable SentencePiece model",
    }
    for name, message in cases.items():
        if name != "none":
            (tmp_path / name).write_text("{}")
        with pytest.raises(UserError, match=message):
            tokenizer.load(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "weights.bin").write_text("")
    with pytest.raises(UserError, match=r"no tokenizer\.json.*weights\.bin"):
        tokenizer.Pretrained(path=str(tmp_path / "empty")).validate("data.tokenizer")


def test_vocabularies_that_do_not_fit_the_corpus_are_refused(texts):
    with pytest.raises(UserError, match="vocab_size=130: the special tokens and characters"):
        tokenizer.train(tokenizer.WordPiece(vocab_size=130, lowercase=False), texts)
    with pytest.raises(UserError, match=r"vocab_size=50000: this corpus gives \d+ pieces"):
        tokenizer.train(tokenizer.Unigram(vocab_size=50000, sentinels=0), texts)
    with pytest.raises(UserError, match=r"data\.tokenizer\.vocab_size=7"):
        tokenizer.Bpe(vocab_size=7, sentinels=0).validate("data.tokenizer")


def test_long_lines_are_cut_for_the_sentencepiece_trainer_not_dropped():
    text = "word " * 3000 + "x" * 9001
    lines = list(sentencepiece_model._lines([text]))
    assert max(map(len, lines)) <= sentencepiece_model.LONGEST_LINE
    assert "".join(lines) == text


@pytest.fixture(scope="module")
def with_roles(texts):
    return {name: tokenizer.train(config, texts) for name, config in WITH_ROLES.items()}


@pytest.mark.parametrize("name", WITH_ROLES)
def test_sentinels_and_markers_are_special_saved_and_never_in_a_text(with_roles, texts, name, tmp_path):
    made, config = with_roles[name], WITH_ROLES[name]
    vocabulary = made.vocabulary
    assert [made.token(id) for id in vocabulary.sentinels] == [
        f"<extra_id_{i}>" for i in range(config.sentinels)
    ]
    assert vocabulary.special_V[list(vocabulary.sentinels + vocabulary.infill)].all()
    text = "a <extra_id_0> b <|endoftext|> c <|fim_middle|>"
    assert not vocabulary.special_V[made.encode(text)].any()
    assert made.encode_marked("a <extra_id_0>")[-1] == vocabulary.sentinels[0]
    made.save(tmp_path)
    again = tokenizer.load(tmp_path)
    assert again.fingerprint == made.fingerprint and again.vocabulary.sentinels == vocabulary.sentinels
    assert tokenizer.train(config, texts).fingerprint == made.fingerprint
    assert vocabulary.size == config.vocab_size
    stops = {made.token(id).strip("▁Ġ") for id in vocabulary.stops}
    assert "." in stops and not any(letter.isalnum() or letter == "," for stop in stops for letter in stop)


def test_byte_bpe_gives_every_text_back_and_has_gpt2s_roles(with_roles, texts):
    made = with_roles["bytes"]
    vocabulary = made.vocabulary
    for text in [*texts, TRICKY, "  two  spaces\n\t é \x00 😀 "]:
        assert made.decode(made.encode(text)) == text
    assert vocabulary.bos == vocabulary.eos == 0 and made.token(0) == "<|endoftext|>"
    assert (vocabulary.pad, vocabulary.unk, vocabulary.mask, vocabulary.cls) == (1, -1, -1, -1)
    assert [made.token(id) for id in vocabulary.infill] == [
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
    ]
    with pytest.raises(
        UserError, match="vocab_size=258: the special tokens and the 256 bytes alone take 258"
    ):
        tokenizer.train(tokenizer.ByteBpe(vocab_size=258, sentinels=0, infill="off"), texts)
    with pytest.raises(UserError, match=r"tokenizer\.sentinels=-1"):
        tokenizer.ByteBpe(vocab_size=300, sentinels=-1, infill="off").validate("tokenizer")


def test_bert_vocabularies_begin_and_end_with_cls_and_sep(trained):
    for name in CONFIGS:
        vocabulary = trained[name].vocabulary
        assert (vocabulary.bos, vocabulary.eos) == (vocabulary.cls, vocabulary.sep)
        assert not vocabulary.sentinels and not vocabulary.infill


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_the_pair_of_files_of_gpt2_is_the_tokenizer_it_came_from(with_roles, texts, names, tmp_path):
    made = with_roles["bytes"]
    model = json.loads(made.text)["model"]
    (tmp_path / names[0]).write_text(json.dumps(model["vocab"]))
    (tmp_path / names[1]).write_text("#version: 0.2\n" + "\n".join(model["merges"]) + "\n", encoding="utf-8")
    for path in (tmp_path, tmp_path / names[0]):
        read = tokenizer.load(path)
        assert read.fingerprint == made.fingerprint and read.vocabulary.infill == made.vocabulary.infill
        assert all(map(np.array_equal, read.encode_batch(texts), made.encode_batch(texts)))
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    assert tokenizer.load(tmp_path).encode("the the") == made.encode(" the the") != made.encode("the the")
    (tmp_path / names[1]).write_text("one two three\n")
    with pytest.raises(UserError, match="'one two three' is not a pair"):
        tokenizer.load(tmp_path)
    (tmp_path / names[1]).unlink()
    with pytest.raises(UserError, match=f"{names[1]} must stand beside it"):
        tokenizer.load(tmp_path / names[0])
    (tmp_path / names[0]).write_text('{"a": "b"}')
    (tmp_path / names[1]).write_text("")
    with pytest.raises(UserError, match="must map pieces to ids"):
        tokenizer.load(tmp_path / names[0])


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("name", ["uncased", "bpe"])
def test_roles_named_beside_a_tokenizer_win_and_are_saved(trained, name, file, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    trained[name].save(folder)
    names = {
        "bos_token": "[MASK]",
        "eos_token": {"content": "[PAD]"},
        "cls_token": None,
        "unk_token": "absent",
    }
    (folder / file).write_text(json.dumps(names))
    made = tokenizer.load(folder)
    assert (made.vocabulary.bos, made.vocabulary.eos, made.vocabulary.cls, made.vocabulary.unk) == (
        4,
        0,
        2,
        1,
    )
    assert made.fingerprint != trained[name].fingerprint
    (tmp_path / "ours").mkdir()
    made.save(tmp_path / "ours")
    for again in (tokenizer.load(tmp_path / "ours"), pickle.loads(pickle.dumps(made))):
        assert again.fingerprint == made.fingerprint and (again.vocabulary.bos, again.vocabulary.eos) == (
            4,
            0,
        )
    (folder / file).write_text(json.dumps({"bos_token": "[CLS]", "model_max_length": 512}))
    assert (
        tokenizer.load(folder).fingerprint == trained[name].fingerprint
    )  # what its usual name leads to anyway
    (folder / file).write_text("{")
    with pytest.raises(UserError, match=f"{file}: cannot be read"):
        tokenizer.load(folder)


def test_t5_and_xlmr_number_their_ids_as_published(texts, tmp_path):
    import sentencepiece

    prefix = str(tmp_path / "spiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=prefix, vocab_size=211, model_type="unigram", minloglevel=2,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    plain = tokenizer.load(tmp_path)
    assert plain.vocabulary.sentinels == () and plain.vocabulary.bos == -1 and plain.vocabulary.eos == 1
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    made = tokenizer.load(tmp_path)
    assert made.size == plain.size + 100
    assert made.vocabulary.sentinels == tuple(range(made.size - 1, made.size - 101, -1))
    assert made.encode(texts[0]) == plain.encode(texts[0])
    assert made.decode([*made.encode("the cat"), made.vocabulary.sentinels[0]]) == "the cat"
    (tmp_path / "saved").mkdir()
    made.save(tmp_path / "saved")
    for again in (tokenizer.load(tmp_path / "saved"), pickle.loads(pickle.dumps(made))):
        assert again.fingerprint == made.fingerprint != plain.fingerprint and again.pieces == made.pieces
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": -2}')
    with pytest.raises(UserError, match="extra_ids=-2"):
        tokenizer.load(tmp_path)


def test_fairseq_models_have_their_special_tokens_first(trained, texts, tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(tmp_path / "m"), vocab_size=203, model_type="bpe",
        minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    (tmp_path / "sentencepiece.bpe.model").write_bytes((tmp_path / "m.model").read_bytes())
    raw, made = tokenizer.load(tmp_path / "m.model"), tokenizer.load(tmp_path / "sentencepiece.bpe.model")
    v = made.vocabulary
    assert (v.cls, v.pad, v.sep, v.unk, v.mask) == (0, 1, 2, 3, made.size - 1) and made.size == raw.size + 2
    for text in texts:
        assert made.encode(text) == [{0: 3}.get(id, id + 1) for id in raw.encode(text)]
        assert made.decode(made.encode(text)) == raw.decode(raw.encode(text))
    (tmp_path / "saved").mkdir()
    made.save(tmp_path / "saved")
    assert tokenizer.load(tmp_path / "saved").fingerprint == made.fingerprint
