"""SentencePiece: training Unigram and BPE models, and reading .model files. In: texts, or a model's bytes.

Out: a `Tokenizer`. New models have [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4, then their sentinels. Deterministic: a
fixed number of threads (sums of floats depend on how they are shared out) and no shuffling. Two published models number
their ids otherwise than their file: T5 has its sentinels after it, XLM-R puts fairseq's special tokens first.
"""

import functools
import hashlib
import io
import json
import os
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sentencepiece

from jaxlm.data.tokens import subwords
from jaxlm.data.tokens.settings import FIX, Settings
from jaxlm.errors import Damaged, UserError, reading

FILE = "tokenizer.model"
FAIRSEQ_FILE = "sentencepiece.bpe.model"  # XLM-R's and mBART's
THREADS = 8
COVERAGE = 0.9995  # share of characters with a piece of their own; SentencePiece's default
Layout = Literal["own", "fairseq"]
Space = Literal[
    "always", "once"
]  # what a text begins with: also behind a special token written in it, or not there
# normalizer_spec { add_dummy_prefix: false }: of two messages behind one another, the second's fields count.
_NO_PREFIX = b"\x1a\x02\x18\x00"
LEAST_SIZE = 100  # of a vocabulary that a run may ask for
LONGEST_LINE = 4000  # characters; the trainer drops lines of more than max_sentence_length bytes


class SentencePieceTokenizer(subwords.Tokenizer):
    """A SentencePiece model."""

    marker = "▁"

    def __init__(
        self,
        model: bytes,
        name: str,
        roles: Mapping[str, str] = types.MappingProxyType({}),
        *,
        extra_ids: int = 0,
        layout: Layout = "own",
        added: Sequence[str] = (),
        space: Space = "always",
    ):
        self.model = model
        self.name = name
        self.extra_ids = extra_ids
        self.layout: Layout = layout
        self.added = tuple(added)  # special tokens behind all others
        self.space: Space = space
        with reading(f"tokenizer {name}", "not a readable SentencePiece model"):
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
            if not self._processor.get_piece_size():
                raise Damaged("it has no pieces")
        pieces = self._processor.id_to_piece(list(range(self._processor.get_piece_size())))
        self._ours_of_model = np.arange(len(pieces), dtype=np.int32)
        if layout == "fairseq":
            self._ours_of_model = np.concatenate([[3, 0, 2], np.arange(4, len(pieces) + 1)]).astype(np.int32)
            pieces = ["<s>", "<pad>", "</s>", "<unk>", *pieces[3:], "<mask>"]
        # As in T5: <extra_id_0> has the highest id.
        self.pieces = [*pieces, *reversed(subwords.sentinel_names(extra_ids)), *added]
        self.fingerprint = hashlib.sha256(model).hexdigest()
        if extra_ids or layout != "own" or added:
            content = " ".join([self.fingerprint, layout, str(extra_ids), *added])
            self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        self._threads = 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else -1
        self.assign_roles(roles)

    def _between(self, sep: int) -> tuple[int, ...]:
        """fairseq's models have two [SEP] there."""
        return (sep,) if self.layout == "fairseq" and sep >= 0 else ()

    def __getstate__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        more = {"extra_ids": self.extra_ids, "layout": self.layout, "added": self.added, "space": self.space}
        return (self.model, self.name, dict(self.roles)), more

    def __setstate__(self, state: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        self.__init__(*state[0], **state[1])

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = self._processor.encode(list(texts), num_threads=self._threads)
        return [self._ours_of_model[np.array(ids, np.int32)] for ids in encoded]

    def encode_batch_with_offsets(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        protos = self._processor.encode(list(texts), num_threads=self._threads, return_type="proto")
        return [
            (
                self._ours_of_model[np.array([piece.id for piece in proto.pieces], np.int32)],
                _characters(text, [(piece.begin, piece.end) for piece in proto.pieces]),
            )
            for text, proto in zip(texts, protos, strict=True)
        ]

    def encode_marked(self, text: str) -> list[int]:
        first, *rest = self._marks.split(text)  # texts and the marks between them in turn
        ids = self.encode(first)
        for mark, part in zip(rest[::2], rest[1::2], strict=True):
            ids.append(self._ids[mark])
            ids += self.encode(part) if self.space == "always" else self._encode_behind(part)
        return ids

    def _encode_behind(self, text: str) -> list[int]:
        """Ids of a text with nothing put before it."""
        return self._ours_of_model[np.array(self._bare.encode(text), np.int32)].tolist()

    @functools.cached_property
    def _bare(self) -> sentencepiece.SentencePieceProcessor:
        return sentencepiece.SentencePieceProcessor(model_proto=self.model + _NO_PREFIX)

    @functools.cached_property
    def _mark_names(self) -> set[str]:
        return {self.pieces[id] for id in self.control_ids()} | {
            name for names in subwords.SPECIAL_NAMES.values() for name in names if name in self._ids
        }

    @functools.cached_property
    def _marks(self) -> re.Pattern[str]:
        return re.compile("(" + "|".join(map(re.escape, sorted(self._mark_names, reverse=True))) + ")")

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.decode(
            [self._model_of_ours[id] for id in map(int, ids) if id not in self._controls]
        )

    def control_ids(self) -> set[int]:
        return self._controls

    @functools.cached_property
    def _model_of_ours(self) -> dict[int, int]:
        return {int(ours): theirs for theirs, ours in enumerate(self._ours_of_model)}

    @functools.cached_property
    def _controls(self) -> set[int]:
        outside = set(range(self.size)) - set(self._model_of_ours)
        return outside | {
            ours for ours, theirs in self._model_of_ours.items() if self._processor.is_control(theirs)
        }

    def save(self, directory: str | os.PathLike[str]) -> list[str]:
        written = [FILE if self.layout == "own" else FAIRSEQ_FILE]
        (Path(directory) / written[0]).write_bytes(self.model)
        settings: dict[str, Any] = {"extra_ids": self.extra_ids} if self.extra_ids else {}
        if self.added:
            settings["extra_special_tokens"] = list(self.added)
        if self.space == "once":
            settings["tokenizer_class"] = "LlamaTokenizer"
        if settings:
            (Path(directory) / subwords.ROLE_FILES[0]).write_text(json.dumps(settings) + "\n")
            written.append(subwords.ROLE_FILES[0])
        return [*written, *self.save_roles(directory)]


def load(file: Path, settings: Settings) -> SentencePieceTokenizer:
    """A .model file, with the special tokens that its name and the settings beside it stand for."""
    settings.check_class(file.name)
    # T5's own tokenizer adds 100 unless told otherwise; its .model knows nothing of them. Others have no such key.
    usual = 100 if settings.kind == "T5Tokenizer" else 0
    extra_ids = settings.values.get("extra_ids", usual) if settings.kind in ("", "T5Tokenizer") else 0
    if not isinstance(extra_ids, int) or not 0 <= extra_ids <= 10_000:
        raise UserError(f"tokenizer settings {settings.where}: extra_ids={extra_ids!r}; allowed: 0 to 10000.")
    if (
        settings.kind in ("LlamaTokenizer", "XLMRobertaTokenizer")
        and settings.flag("add_prefix_space", True) is False
    ):
        raise UserError(
            f"tokenizer settings {settings.where}: add_prefix_space=False is not done here. {FIX}"
        )
    layout: Layout = "fairseq" if file.name == FAIRSEQ_FILE else "own"
    # As transformers: its Llama puts a space before a text, and before what is behind a token only if told so.
    space: Space = (
        "once" if settings.kind == "LlamaTokenizer" and not settings.flag("legacy", False) else "always"
    )

    def made(added: Sequence[str] = ()) -> SentencePieceTokenizer:
        model, roles = file.read_bytes(), settings.roles
        return SentencePieceTokenizer(
            model, str(file), roles, extra_ids=extra_ids, layout=layout, added=added, space=space
        )

    plain = made()
    tokens = [token for token in settings.tokens(plain._ids) if token["id"] >= plain.size]
    for token in tokens:
        if not token["special"] or token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise UserError(
                f"tokenizer settings {settings.where}: the added token {token['content']!r} takes spaces beside it, or "
                f"is looked for in every text, which is not done here. {FIX}"
            )
    return made([token["content"] for token in tokens]) if tokens else plain


def train(
    texts: Iterable[str], vocab_size: int, kind: Literal["unigram", "bpe"], sentinels: int
) -> SentencePieceTokenizer:
    """A model of exactly `vocab_size` pieces, `sentinels` included; UserError when the corpus is too small for it."""
    pad, unk, cls, sep, mask = subwords.SPECIALS
    options: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": vocab_size,
        "character_coverage": COVERAGE,
        "max_sentence_length": 4 * LONGEST_LINE + 4,
        "shuffle_input_sentence": False,
        "num_threads": THREADS,
        "minloglevel": 2,
        **{
            "pad_id": 0,
            "unk_id": 1,
            "bos_id": 2,
            "eos_id": 3,
            "control_symbols": [mask, *subwords.sentinel_names(sentinels)],
        },
        **{"pad_piece": pad, "unk_piece": unk, "bos_piece": cls, "eos_piece": sep},
    }
    model = io.BytesIO()
    try:
        trainer = sentencepiece.SentencePieceTrainer
        trainer.train(sentence_iterator=_lines(texts), model_writer=model, **options)
    except RuntimeError as error:
        raise UserError(_untrainable(vocab_size, str(error))) from error
    return SentencePieceTokenizer(model.getvalue(), f"{kind}(vocab_size={vocab_size})")


def _untrainable(vocab_size: int, problem: str) -> str:
    """What to do about SentencePiece's own words."""
    most = re.search(r"set it to a value <= (\d+)", problem)
    least = re.search(r"smaller than required_chars\D+\d+ vs (\d+)", problem)
    where = f"tokenizer vocab_size={vocab_size}: "
    if most:
        smaller = f"--config.tokenizer.vocab_size={most[1]}, or " if int(most[1]) >= LEAST_SIZE else ""
        return (
            f"{where}this corpus gives {most[1]} pieces, and a SentencePiece model has as many as it is asked for. "
            f"Fix: {smaller}more text."
        )
    if least:
        return (
            f"{where}the special tokens and characters of this corpus alone take {least[1]}. "
            f"Fix: --config.tokenizer.vocab_size=N, with N well above {least[1]}."
        )
    return f"{where}SentencePiece cannot train it: {problem}"


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Lines of at most LONGEST_LINE characters, cut at a space where there is one."""
    for text in texts:
        for line in text.splitlines():
            while len(line) > LONGEST_LINE:
                cut = line.rfind(" ", 1, LONGEST_LINE)
                cut = cut if cut > 0 else LONGEST_LINE
                yield line[:cut]
                line = line[cut:]
            if line.strip():
                yield line


def _characters(text: str, spans: list[tuple[int, int]]) -> np.ndarray:
    """Byte offsets into the UTF-8 of a text as character offsets, int64 [n, 2]."""
    offsets = np.array(spans, np.int64).reshape(-1, 2)
    if text.isascii():
        return offsets
    data = np.frombuffer(text.encode(), np.uint8)
    first_bytes = (data & 0xC0) != 0x80
    return np.concatenate([[0], np.cumsum(first_bytes)])[offsets]
