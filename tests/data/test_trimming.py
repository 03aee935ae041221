"""Tokenizers with fewer tokens, by the `tokenizers` library: what uses kept tokens alone gets the same pieces."""

import itertools
import json

import numpy as np
import pytest
import tokenizers

from jaxlm.data.tokens import sentencepiece_model, spiece_json, trimming
from jaxlm.errors import UserError
from tests.data.test_tokenizer import TRICKY

LETTERS = "abc"
WORDS = ["".join(word) for n in range(1, 8) for word in itertools.product(LETTERS, repeat=n)]
EMPTY = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
EMPTY |= {"pre_tokenizer": None, "post_processor": None, "decoder": None}


def drawn(kind: str, seed: int) -> dict:
    """A tokenizer of pieces drawn by chance, many of them sharing letters, ranks and scores."""
    rng = np.random.default_rng(seed)
    pieces, merges = list(LETTERS), []
    while len(pieces) < 30:
        pair = rng.choice(pieces, 2)
        if len("".join(pair)) < 7 and (not merges or [*pair] not in merges):
            merges.append([*map(str, pair)])
            pieces += [piece for piece in ["".join(pair)] if piece not in pieces]
    rng.shuffle(merges)
    if kind == "BPE":
        vocab = {piece: id for id, piece in enumerate(pieces)}
        return EMPTY | {"model": {"type": "BPE", "vocab": vocab, "merges": merges}}
    if kind == "Unigram":
        vocab = [["<unk>", 0.0], *([piece, -float(rng.integers(1, 5)) / 2] for piece in pieces)]
        return EMPTY | {"model": {"type": "Unigram", "unk_id": 0, "vocab": vocab}}
    names = ["[UNK]", *pieces, *(f"##{piece}" for piece in pieces)]
    about = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    vocab = {piece: id for id, piece in enumerate(names)}
    return EMPTY | {"model": {"type": "WordPiece", **about, "vocab": vocab}}


def fewer(config: dict, ids: set[int]) -> tuple[list[int], tokenizers.Tokenizer]:
    """What stays, and the library's tokenizer of it."""
    kept = sorted(trimming.closed(config, trimming.needed(config) | ids))
    made = trimming.trimmed(config, {old: new for new, old in enumerate(kept)})
    return kept, tokenizers.Tokenizer.from_str(json.dumps(made))


def encoded(tokenizer: tokenizers.Tokenizer, texts: list[str]) -> list[tuple[list[int], list[str]]]:
    """One by one, as a batch is padded."""
    found = (tokenizer.encode(text, add_special_tokens=False) for text in texts)
    return [(one.ids, one.tokens) for one in found]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["BPE", "Unigram", "WordPiece"])
def test_every_word_of_kept_pieces_is_split_as_before(kind, seed):
    config = drawn(kind, seed)
    old = tokenizers.Tokenizer.from_str(json.dumps(config))
    size = old.get_vocab_size()
    kept, new = fewer(config, set(np.random.default_rng(seed).permutation(size)[: size // 3].tolist()))
    assert 0 < len(kept) < size
    same = 0
    for (ids, pieces), (fresh, found) in zip(encoded(old, WORDS), encoded(new, WORDS), strict=True):
        assert "".join(piece.removeprefix("##") for piece in found) == "".join(
            p.removeprefix("##") for p in pieces
        )
        if set(ids) <= set(kept):
            assert found == pieces and [kept[id] for id in fresh] == ids
            same += 1
    assert 20 < same < len(WORDS)


@pytest.fixture(scope="module")
def texts():
    import difflib
    import pathlib

    return [line.strip() for line in pathlib.Path(difflib.__file__).read_text().splitlines() if line.strip()]


def published(kind: str, texts: list[str]) -> dict:
    """As models come: with bytes that stand for unknown characters, templates, and words that are matched whole."""
    if kind in ("unigram", "bpe"):
        trained = sentencepiece_model.train(texts, 420, kind, 3)
        made = spiece_json.convert(trained.model, "here")
        if kind == "bpe":
            return made
        steps = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
        pair = [*steps, {"Sequence": {"id": "B", "type_id": 1}}]
        special = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
        about = {"type": "TemplateProcessing", "single": steps, "pair": pair, "special_tokens": special}
        return made | {"post_processor": {"type": "Sequence", "processors": [about]}}
    library = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=True))
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(texts, trainer)
    library.add_special_tokens(["<s>", "</s>", "<pad>"])
    library.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 701), ("<s>", 700))
    library.enable_padding(pad_id=702, pad_token="<pad>")
    return json.loads(library.to_str())


@pytest.mark.parametrize("kind", ["unigram", "bpe", "bytes"])
def test_text_like_that_of_the_choice_is_read_as_before_and_all_other_text_too(kind, texts):
    config = published(kind, texts)
    old = tokenizers.Tokenizer.from_str(json.dumps(config))
    chosen = {id for ids, _ in encoded(old, texts[:100]) for id in ids}
    kept, new = fewer(config, chosen)
    assert len(kept) < 0.95 * old.get_vocab_size(with_added_tokens=True)
    tried = [*texts, TRICKY]
    pairs = list(zip(encoded(old, tried), encoded(new, tried), strict=True))
    same = [set(ids) <= set(kept) for (ids, _), _ in pairs]
    assert 100 <= sum(same) < len(pairs)
    for ((ids, pieces), (fresh, found)), equal in zip(pairs, same, strict=True):
        assert (found == pieces and [kept[id] for id in fresh] == ids) or not equal
        assert new.decode(fresh) == old.decode(ids)
    marked, before = new.encode(texts[0]), old.encode(texts[0])
    assert marked.tokens == before.tokens and [kept[id] for id in marked.ids] == before.ids
    if kind == "bytes":
        assert new.padding["pad_id"] == new.token_to_id("<pad>")


def test_bytes_for_unknown_characters_stay(texts):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=500, byte_fallback=True, minloglevel=2
    )
    config = spiece_json.convert(model.getvalue(), "here")
    kept, new = fewer(config, set())
    assert len(kept) < 420
    assert "<0xF0>" in new.encode("😀").tokens and "<unk>" not in new.encode("😀 中").tokens


def test_unknown_characters_cost_what_they_did(texts):
    """Their score follows from the least of all, whose piece therefore stays."""
    config = published("unigram", texts)
    scores = [score for _, score in config["model"]["vocab"]]
    assert int(np.argmin(scores)) in trimming.needed(config)


def test_what_is_not_followed_is_refused():
    suffix = EMPTY | {"model": {"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}}
    with pytest.raises(UserError, match=r"end_of_word_suffix='</w>'.*Fix: "):
        trimming.check(suffix, "here")
    with pytest.raises(UserError, match=r"of the kind 'Other'.*WordPiece, BPE.*Fix: "):
        trimming.check(EMPTY | {"model": {"type": "Other"}}, "here")
