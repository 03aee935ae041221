"""Tokenizers: the configs a run holds, loading and training. In: a config, and texts to train on. Out: a `Tokenizer`.

`WordPiece`, `Unigram`, `Bpe` and `ByteBpe` are trained (the same texts give the same fingerprint), `Pretrained` is
loaded from a tokenizer.json, a SentencePiece .model, a BERT vocab.txt, GPT-2's vocab.json with merges.txt (or
encoder.json with vocab.bpe), or a folder that holds one of them.
"""

import dataclasses
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxlm.data.places import expanded
from jaxlm.data.tokens import settings
from jaxlm.data.tokens.subwords import Tokenizer
from jaxlm.errors import UserError, reading

MIB = 2**20
# A vocabulary of byte-level BPE and its merges: Hugging Face's names, and those of OpenAI's release.
BYTE_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


@dataclasses.dataclass(kw_only=True)
class WordPiece:
    """BERT's tokenizer, trained on the training split. lowercase also strips accents."""

    vocab_size: int  # special tokens included
    lowercase: bool  # lower case, and no accents
    sample_bytes: ClassVar[int] = 256 * MIB  # of text to train on: about half a minute

    def validate(self, where: str) -> None:
        """UserError for a vocabulary without room for letters."""
        _check_size(self.vocab_size, where)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train."""
        from jaxlm.data.tokens import wordpiece

        return wordpiece.train(texts, self.vocab_size, self.lowercase)


@dataclasses.dataclass(kw_only=True)
class Unigram:
    """SentencePiece Unigram (Kudo 2018; ALBERT, XLM-R, T5), trained on the training split. Cased."""

    vocab_size: int  # special tokens and sentinels included
    sentinels: int  # <extra_id_0> ...: 100 for T5; 0 for masked language models
    sample_bytes: ClassVar[int] = 64 * MIB  # the trainer holds a suffix array: about 30 bytes a byte of text

    def validate(self, where: str) -> None:
        """UserError for a vocabulary without room for letters."""
        _check_size(self.vocab_size, where)
        _check_sentinels(self.sentinels, where)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train."""
        from jaxlm.data.tokens import sentencepiece_model

        return sentencepiece_model.train(texts, self.vocab_size, "unigram", self.sentinels)


@dataclasses.dataclass(kw_only=True)
class Bpe:
    """SentencePiece BPE (Sennrich et al. 2016), trained on the training split. Cased."""

    vocab_size: int  # special tokens and sentinels included
    sentinels: int  # <extra_id_0> ...: 100 for T5; 0 for masked language models
    sample_bytes: ClassVar[int] = 64 * MIB

    def validate(self, where: str) -> None:
        """UserError for a vocabulary without room for letters."""
        _check_size(self.vocab_size, where)
        _check_sentinels(self.sentinels, where)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train."""
        from jaxlm.data.tokens import sentencepiece_model

        return sentencepiece_model.train(texts, self.vocab_size, "bpe", self.sentinels)


@dataclasses.dataclass(kw_only=True)
class ByteBpe:
    """Byte-level BPE (GPT-2, RoBERTa, Llama 3), trained on the training split: <|endoftext|>, <pad>, what follows."""

    vocab_size: int  # special tokens included
    sentinels: int  # <extra_id_0> ...: 100 for span corruption; 0 for a causal model
    infill: Literal["off", "on"]  # <|fim_prefix|>, <|fim_suffix|>, <|fim_middle|>, to fill in the middle
    sample_bytes: ClassVar[int] = 256 * MIB

    def validate(self, where: str) -> None:
        """UserError for a vocabulary without room for the bytes."""
        _check_size(self.vocab_size, where)
        _check_sentinels(self.sentinels, where)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Train."""
        from jaxlm.data.tokens import byte_bpe

        return byte_bpe.train(texts, self.vocab_size, self.sentinels, self.infill)


@dataclasses.dataclass(kw_only=True)
class Pretrained:
    """A tokenizer that exists: a tokenizer.json, .model, vocab.txt, vocab.json or .gguf, or a folder with one.

    What tokenizer_config.json, special_tokens_map.json and added_tokens.json beside it say counts: see `settings`.
    """

    path: str  # tokenizer.json, .model, vocab.txt, vocab.json or .gguf, or a folder with one
    sample_bytes: ClassVar[int] = 0  # nothing to train

    def validate(self, where: str) -> None:
        """UserError when there is no tokenizer at the path."""
        _find(self.path)

    def make(self, texts: Iterable[str]) -> Tokenizer:
        """Load; the texts are not read."""
        return load(self.path)


TokenizerConfig = WordPiece | Unigram | Bpe | ByteBpe | Pretrained


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
    if file.suffix == ".gguf":
        return _of_gguf(file)
    with reading(f"tokenizer {file}"):
        beside = settings.read(file.parent)
        made = _loaded(file, beside)
    # Of a tokenizer.json its own template says it; RoBERTa's and BART's is always the same.
    asked = file.name != "tokenizer.json" and beside.kind in ("", "GPT2Tokenizer", "LlamaTokenizer")
    made.starts_with_bos = asked and bool(beside.flag("add_bos_token", False))
    made.chat = beside.chat
    return made


def _of_gguf(file: Path) -> Tokenizer:
    """The one that the metadata of a .gguf file describe."""
    from jaxlm.data.tokens import gguf_tokenizer, json_tokenizer
    from jaxlm.formats import gguf_file

    texts = gguf_tokenizer.files(gguf_file.read(file).metadata, str(file))
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        beside = settings.read(Path(folder))
    made = json_tokenizer.load(texts["tokenizer.json"], str(file), beside)
    if beside.chat is not None:
        made.chat = dataclasses.replace(beside.chat, where=str(file))
    return made


def _loaded(file: Path, beside: settings.Settings) -> Tokenizer:
    if (merges := _merges(file)) is not None:
        from jaxlm.data.tokens import byte_bpe

        return byte_bpe.load(file, merges, beside)
    if file.suffix == ".json":
        from jaxlm.data.tokens import json_tokenizer

        return json_tokenizer.load(file.read_text(encoding="utf-8"), str(file), beside)
    if file.suffix == ".model":
        from jaxlm.data.tokens import sentencepiece_model

        return sentencepiece_model.load(file, beside)
    from jaxlm.data.tokens import json_tokenizer, wordpiece

    beside.check_class("vocab.txt")
    pieces = file.read_text(encoding="utf-8").split("\n")
    pieces = [piece.rstrip("\r") for piece in (pieces[:-1] if pieces[-1] == "" else pieces)]
    # Without a setting, a vocabulary with no capital is uncased.
    uncased = not any(piece != piece.lower() for piece in pieces if not piece.startswith("["))
    made = wordpiece.make(pieces, uncased, str(file), unknown=beside.roles.get("unk", "[UNK]"))
    return json_tokenizer.load(made.text, str(file), beside)


def _find(path: str | os.PathLike[str]) -> Path:
    place = expanded(path)
    if place.is_dir():
        models = sorted(place.glob("*.model"))
        pairs = [place / vocab for vocab, merges in BYTE_PAIRS if (place / merges).is_file()]
        for file in (place / "tokenizer.json", *models, *pairs, place / "vocab.txt"):
            if file.is_file():
                return file
        names = ", ".join(sorted(file.name for file in place.iterdir())[:10]) or "nothing"
        raise UserError(
            f"tokenizer {place}: no tokenizer.json, *.model, vocab.txt or vocab.json with merges.txt in this folder; "
            f"it holds {names}. Point to the folder or file that has the tokenizer."
        )
    if not place.is_file():
        raise UserError(
            f"tokenizer {place}: no such file or folder. Allowed: a tokenizer.json, a SentencePiece .model, a BERT "
            "vocab.txt, a GPT-2 vocab.json beside its merges.txt, a .gguf, or a folder with one. A model on a hub must "
            "be downloaded first."
        )
    if place.suffix not in (".json", ".model", ".txt", ".gguf"):
        raise UserError(
            f"tokenizer {place}: unknown kind. Allowed: tokenizer.json, *.model, vocab.txt, vocab.json with "
            "merges.txt, *.gguf."
        )
    return place


def _merges(file: Path) -> Path | None:
    """The merges beside one of GPT-2's vocabularies; None for a file of another kind. UserError when it is missing."""
    for vocab, merges in BYTE_PAIRS:
        if file.name == vocab:
            if not file.with_name(merges).is_file():
                raise UserError(
                    f"tokenizer {file}: {merges} must stand beside it; there is none in {file.parent}."
                )
            return file.with_name(merges)
    return None


def _check_size(vocab_size: int, where: str) -> None:
    if not 100 <= vocab_size <= 2**24:
        raise UserError(f"{where}.vocab_size={vocab_size}: must be between 100 and {2**24}; BERT has 30522.")


def _check_sentinels(sentinels: int, where: str) -> None:
    if not 0 <= sentinels <= 10_000:
        raise UserError(f"{where}.sentinels={sentinels}: allowed is 0 to 10000; T5 has 100.")
