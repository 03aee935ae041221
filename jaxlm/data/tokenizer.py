"""Tokenizers: the configs a run holds, loading and training. In: a config, and texts to train on. Out: a `Tokenizer`.

`WordPiece`, `Unigram` and `Bpe` are trained (the same texts give the same fingerprint), `Pretrained` is loaded from a
tokenizer.json, a SentencePiece .model, a BERT vocab.txt, or a folder that holds one.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from jaxlm.data.subwords import Tokenizer
from jaxlm.errors import UserError

MIB = 2**20


@dataclasses.dataclass(kw_only=True)
class WordPiece:
    """BERT's tokenizer, trained on the training split. lowercase also strips accents."""

    vocab_size: int
    lowercase: bool
    sample_bytes: ClassVar[int] = 256 * MIB  # of text to train on: about half a minute

    def validate(self, where: str) -> None:
        """UserError for a vocabulary without room for letters."""
        _check_size(self.vocab_size, where)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train."""
        from jaxlm.data import wordpiece

        return wordpiece.train(texts, self.vocab_size, self.lowercase)


@dataclasses.dataclass(kw_only=True)
class Unigram:
    """SentencePiece Unigram (Kudo 2018; ALBERT, XLM-R, T5), trained on the training split. Cased."""

    vocab_size: int
    sample_bytes: ClassVar[int] = 64 * MIB  # the trainer holds a suffix array: about 30 bytes a byte of text

    def validate(self, where: str) -> None:
        """UserError for a vocabulary without room for letters."""
        _check_size(self.vocab_size, where)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train."""
        from jaxlm.data import sentencepiece_model

        return sentencepiece_model.train(texts, self.vocab_size, "unigram")


@dataclasses.dataclass(kw_only=True)
class Bpe:
    """SentencePiece BPE (Sennrich et al. 2016), trained on the training split. Cased."""

    vocab_size: int
    sample_bytes: ClassVar[int] = 64 * MIB

    def validate(self, where: str) -> None:
        """UserError for a vocabulary without room for letters."""
        _check_size(self.vocab_size, where)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train."""
        from jaxlm.data import sentencepiece_model

        return sentencepiece_model.train(texts, self.vocab_size, "bpe")


@dataclasses.dataclass(kw_only=True)
class Pretrained:
    """A tokenizer that exists: the path of a tokenizer.json, .model or vocab.txt, or of a folder with one."""

    path: str
    sample_bytes: ClassVar[int] = 0  # nothing to train

    def validate(self, where: str) -> None:
        """UserError when there is no tokenizer at the path."""
        _find(self.path)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Load; the texts are not read."""
        return load(self.path)


TokenizerConfig = WordPiece | Unigram | Bpe | Pretrained


def train(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of a config, trained on the texts where it is to be trained."""
    config.validate("tokenizer")
    return config.make(texts)


def describe(config: TokenizerConfig) -> dict[str, Any]:
    """JSON value of a config: {'type': 'WordPiece', 'vocab_size': ..., ...}."""
    return {"type": type(config).__name__, **dataclasses.asdict(config)}


def load(path: str | os.PathLike[str]) -> Tokenizer:
    """A tokenizer from its file, or from a folder. UserError when there is none or it cannot be read."""
    file = _find(path)
    try:
        if file.suffix == ".json":
            from jaxlm.data import json_tokenizer

            return json_tokenizer.JsonTokenizer(file.read_text(encoding="utf-8"), str(file))
        if file.suffix == ".model":
            from jaxlm.data import sentencepiece_model

            return sentencepiece_model.SentencePieceTokenizer(file.read_bytes(), str(file))
        return _load_vocab_txt(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"tokenizer {file}: cannot be read: {error}") from error


def _find(path: str | os.PathLike[str]) -> Path:
    place = Path(path).expanduser()
    if place.is_dir():
        candidates = [place / "tokenizer.json", *sorted(place.glob("*.model")), place / "vocab.txt"]
        for file in candidates:
            if file.is_file():
                return file
        names = ", ".join(sorted(file.name for file in place.iterdir())[:10]) or "nothing"
        raise UserError(
            f"tokenizer {place}: no tokenizer.json, *.model or vocab.txt in this folder; it holds {names}. "
            "Point to the folder or file that has the tokenizer."
        )
    if not place.is_file():
        raise UserError(
            f"tokenizer {place}: no such file or folder. Allowed: a tokenizer.json, a SentencePiece .model, a BERT "
            "vocab.txt, or a folder with one. A model on a hub must be downloaded first."
        )
    if place.suffix not in (".json", ".model", ".txt"):
        raise UserError(f"tokenizer {place}: unknown kind. Allowed: tokenizer.json, *.model, vocab.txt.")
    return place


def _load_vocab_txt(file: Path) -> Tokenizer:
    from jaxlm.data import wordpiece

    pieces = file.read_text(encoding="utf-8").split("\n")
    pieces = [piece.rstrip("\r") for piece in (pieces[:-1] if pieces[-1] == "" else pieces)]
    return wordpiece.make(pieces, _lowercase(file, pieces), str(file))


def _lowercase(file: Path, pieces: list[str]) -> bool:
    """do_lower_case of the tokenizer_config.json beside it; without one, a vocabulary with no capital is uncased."""
    beside = file.with_name("tokenizer_config.json")
    if beside.is_file():
        setting = json.loads(beside.read_text(encoding="utf-8")).get("do_lower_case")
        if setting is not None:
            return bool(setting)
    return not any(piece != piece.lower() for piece in pieces if not piece.startswith("["))


def _check_size(vocab_size: int, where: str) -> None:
    if not 100 <= vocab_size <= 2**24:
        raise UserError(f"{where}.vocab_size={vocab_size}: must be between 100 and {2**24}; BERT has 30522.")
