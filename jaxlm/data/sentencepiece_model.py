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

from jaxlm.data import subwords
from jaxlm.errors import Damaged, UserError, reading

FILE = "tokenizer.model"
FAIRSEQ_FILE = "sentencepiece.bpe.model"  # XLM-R's and mBART's
THREADS = 8
COVERAGE = 0.9995  # share of characters with a piece of their own; SentencePiece's default
Layout = Literal["own", "fairseq"]
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
    ):
        self.model = model
        self.name = name
        self.extra_ids = extra_ids
        self.layout: Layout = layout
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
        self.pieces = [*pieces, *reversed(subwords.sentinel_names(extra_ids))]
        self.fingerprint = hashlib.sha256(model).hexdigest()
        if extra_ids or layout != "own":
            content = f"{self.fingerprint} {layout} {extra_ids}"
            self.fingerprint = hashlib.sha256(content.encode()).hexdigest()
        self._threads = 1 if os.environ.get("TOKENIZERS_PARALLELISM") == "false" else -1
        self.assign_roles(roles)

    def __getstate__(self) -> tuple[bytes, str, dict[str, str], int, Layout]:
        return self.model, self.name, dict(self.roles), self.extra_ids, self.layout

    def __setstate__(self, state: tuple[bytes, str, dict[str, str], int, Layout]) -> None:
        self.__init__(*state[:3], extra_ids=state[3], layout=state[4])

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
        if self.extra_ids:
            settings = {"extra_ids": self.extra_ids}
            (Path(directory) / subwords.ROLE_FILES[0]).write_text(json.dumps(settings) + "\n")
            written.append(subwords.ROLE_FILES[0])
        return [*written, *self.save_roles(directory)]


def load(file: Path) -> SentencePieceTokenizer:
    """A .model file, with the special tokens that its name and the settings beside it stand for."""
    beside = file.with_name(subwords.ROLE_FILES[0])
    settings = subwords.settings(beside)
    # T5's own tokenizer adds 100 unless told otherwise; its .model knows nothing of them.
    usual = 100 if str(settings.get("tokenizer_class", "")).startswith("T5") else 0
    extra_ids = settings.get("extra_ids", usual)
    if not isinstance(extra_ids, int) or not 0 <= extra_ids <= 10_000:
        raise UserError(f"tokenizer settings {beside}: extra_ids={extra_ids!r}; allowed: 0 to 10000.")
    return SentencePieceTokenizer(
        file.read_bytes(),
        str(file),
        subwords.read_roles(file.parent),
        extra_ids=extra_ids,
        layout="fairseq" if file.name == FAIRSEQ_FILE else "own",
    )


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
