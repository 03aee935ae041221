"""BERT's WordPiece: training, and vocab.txt. In: texts, or the lines of a vocab.txt. Out: a `JsonTokenizer`.

Trained with the `tokenizers` library, whose own result differs from run to run: it numbers '##a', '##b', ... in the
order of a hash table, and the numbers break ties between merges. Here the alphabet is chosen and numbered beforehand,
so the same texts give the same vocabulary. BERT's normaliser: control characters, CJK, and lower case with accents off.
"""

import collections
import json
from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from jaxlm.data.tokens import json_tokenizer, subwords
from jaxlm.errors import UserError

# As published (google-research/bert): at most 1,000 characters in the alphabet, pairs seen once are not merged.
ALPHABET = 1000
LEAST_COUNT = 2
LONGEST_WORD = 100  # characters; longer words are [UNK]


def train(texts: Iterable[str], vocab_size: int, lowercase: bool) -> json_tokenizer.JsonTokenizer:
    """A WordPiece tokenizer of at most `vocab_size` ids: specials, characters, then pieces by rank of their merge."""
    texts = list(texts)
    alphabet = _alphabet(texts, _normalizer(lowercase))
    tails = [f"##{letter}" for letter in alphabet if _continues_words(letter, lowercase)]
    least = len(subwords.SPECIALS) + len(alphabet) + len(tails)
    if vocab_size <= least:
        raise UserError(
            f"tokenizer vocab_size={vocab_size}: the special tokens and characters of this corpus alone take {least}. "
            f"Fix: --config.tokenizer.vocab_size=N, with N well above {least}."
        )
    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = _normalizer(lowercase)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=LEAST_COUNT,
        special_tokens=[*subwords.SPECIALS, *tails],  # numbered first, in this order
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer, length=len(texts))
    learned = sorted(library.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1])
    known = {*subwords.SPECIALS, *alphabet, *tails}
    pieces = [*subwords.SPECIALS, *alphabet, *tails, *(piece for piece, _ in learned if piece not in known)]
    return make(pieces, lowercase, f"WordPiece(vocab_size={vocab_size})")


def make(
    pieces: Sequence[str], lowercase: bool, name: str, *, unknown: str = "[UNK]"
) -> json_tokenizer.JsonTokenizer:
    """A WordPiece tokenizer from its vocabulary in order of ids, such as the lines of a vocab.txt."""
    vocab = {piece: id for id, piece in enumerate(pieces)}
    if unknown not in vocab:
        raise UserError(
            f"tokenizer {name}: no {unknown} among its {len(vocab)} lines: this is not a BERT vocab.txt."
        )
    # Written out rather than asked of the library, so that no version of it can change the fingerprint.
    config = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocab),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _post_processor(vocab),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": vocab,
        },
    }
    return json_tokenizer.JsonTokenizer(json.dumps(config, ensure_ascii=False, indent=1), name)


def _added_tokens(vocab: dict[str, int]) -> list[dict]:
    added = [
        {
            "id": vocab[mark],
            "content": mark,
            **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False),
        }
        | {"special": True}
        for mark in subwords.SPECIALS
        if mark in vocab
    ]
    return sorted(added, key=lambda token: token["id"])


def _post_processor(vocab: dict[str, int]) -> dict | None:
    """For other programs that read the saved file; jaxlm places special tokens itself."""
    if "[CLS]" not in vocab or "[SEP]" not in vocab:
        return None
    return {"type": "BertProcessing", "sep": ["[SEP]", vocab["[SEP]"]], "cls": ["[CLS]", vocab["[CLS]"]]}


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=None, handle_chinese_chars=True, clean_text=True
    )


def _alphabet(texts: Sequence[str], normalizer: normalizers.Normalizer) -> list[str]:
    """The most frequent characters after normalisation, in order of code point; ties go to the lower code point."""
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    letters = [letter for letter in counts if not letter.isspace()]
    return sorted(sorted(letters, key=lambda letter: (-counts[letter], letter))[:ALPHABET])


def _continues_words(letter: str, lowercase: bool) -> bool:
    """Whether a character can stand inside a word: punctuation and CJK characters cannot."""
    normal = _normalizer(lowercase).normalize_str(f"a{letter}")
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normal)) == 1
