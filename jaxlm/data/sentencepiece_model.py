"""SentencePiece: training Unigram and BPE models, and reading .model files. In: texts, or a model's bytes.

Out: a `Tokenizer`. New models have [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4. Deterministic: a fixed number of
threads (sums of floats depend on how they are shared out) and no shuffling.
"""

import functools
import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sentencepiece

from jaxlm.data import subwords
from jaxlm.errors import UserError

FILE = "tokenizer.model"
THREADS = 8
COVERAGE = 0.9995  # share of characters with a piece of their own; SentencePiece's default
LONGEST_LINE = 4000  # characters; the trainer drops lines of more than max_sentence_length bytes


class SentencePieceTokenizer(subwords.Tokenizer):
    """A SentencePiece model."""

    marker = "▁"

    def __init__(self, model: bytes, name: str):
        self.model = model
        self.name = name
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"tokenizer {name}: not a readable SentencePiece model: {error}") from error
        self.fingerprint = hashlib.sha256(model).hexdigest()
        self.pieces = self._processor.id_to_piece(list(range(self._processor.get_piece_size())))
        self._threads = 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else -1

    def __getstate__(self) -> tuple[bytes, str]:
        return self.model, self.name

    def __setstate__(self, state: tuple[bytes, str]) -> None:
        self.__init__(*state)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = self._processor.encode(list(texts), num_threads=self._threads)
        return [np.array(ids, np.int32) for ids in encoded]

    def encode_batch_with_offsets(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        protos = self._processor.encode(list(texts), num_threads=self._threads, return_type="proto")
        return [
            (
                np.array([piece.id for piece in proto.pieces], np.int32),
                _characters(text, [(piece.begin, piece.end) for piece in proto.pieces]),
            )
            for text, proto in zip(texts, protos, strict=True)
        ]

    def encode_marked(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self._marks.split(text):
            ids += [self._ids[part]] if part in self._mark_names else self.encode(part)
        return ids

    @functools.cached_property
    def _mark_names(self) -> set[str]:
        return {self.pieces[id] for id in self.control_ids()} | {
            name for names in subwords.SPECIAL_NAMES.values() for name in names if name in self._ids
        }

    @functools.cached_property
    def _marks(self) -> re.Pattern[str]:
        return re.compile("(" + "|".join(map(re.escape, sorted(self._mark_names, reverse=True))) + ")")

    def decode(self, ids: Sequence[int]) -> str:
        return self._processor.decode([int(id) for id in ids if int(id) not in self._controls])

    def control_ids(self) -> set[int]:
        return self._controls

    @functools.cached_property
    def _controls(self) -> set[int]:
        return {id for id in range(self.size) if self._processor.is_control(id)}

    def save(self, directory: str | os.PathLike[str]) -> list[str]:
        (Path(directory) / FILE).write_bytes(self.model)
        return [FILE]


def train(texts: Iterable[str], vocab_size: int, kind: Literal["unigram", "bpe"]) -> SentencePieceTokenizer:
    """A SentencePiece model of exactly `vocab_size` pieces; UserError when the corpus is too small for it."""
    pad, unk, cls, sep, mask = subwords.SPECIALS
    options: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": vocab_size,
        "character_coverage": COVERAGE,
        "max_sentence_length": 4 * LONGEST_LINE + 4,
        "shuffle_input_sentence": False,
        "num_threads": THREADS,
        "minloglevel": 2,
        **{"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "control_symbols": [mask]},
        **{"pad_piece": pad, "unk_piece": unk, "bos_piece": cls, "eos_piece": sep},
    }
    model = io.BytesIO()
    try:
        trainer = sentencepiece.SentencePieceTrainer
        trainer.train(sentence_iterator=_lines(texts), model_writer=model, **options)
    except RuntimeError as error:
        raise UserError(
            f"tokenizer vocab_size={vocab_size}: SentencePiece cannot train it: {error}"
        ) from error
    return SentencePieceTokenizer(model.getvalue(), f"{kind}(vocab_size={vocab_size})")


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
