"""A SentencePiece model as a tokenizer.json. In: the bytes of a .model. Out: the JSON that gives the same ids.

Unigram keeps its scores; BPE gets the merges that its scores stand for. The normalisation travels as the model's own
compiled table.
"""

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

from jaxlm.data.tokens.gguf_tokenizer import bpe, merges
from jaxlm.errors import UserError, reading
from jaxlm.formats.protobuf import fields, float32

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPACE = "▁"


Piece = tuple[str, float, int]  # text, score, kind


@dataclasses.dataclass(frozen=True)
class Model:
    """What a .model says."""

    pieces: list[Piece]
    trainer: Mapping[int, Any]
    normalizer: Mapping[int, Any]

    @classmethod
    def of(cls, model: bytes, where: str) -> "Model":
        """UserError for a damaged file."""
        with reading(where, "not a readable SentencePiece model"):
            pieces: list[Piece] = []
            settings: dict[int, dict[int, Any]] = {2: {}, 3: {}}  # of the trainer, of the normaliser
            for number, value in fields(model):
                if number == 1:
                    piece = dict(fields(value))
                    pieces.append((piece[1].decode(), float32(piece.get(2, 0)), piece.get(3, 1)))
                elif number in settings:
                    settings[number] = dict(fields(value))
            return cls(pieces, settings[2], settings[3])

    @property
    def kind(self) -> int:
        """1: Unigram, 2: BPE, ..."""
        return self.trainer.get(3, 1)

    @property
    def prefix(self) -> bool:
        """Whether a space is put before every text."""
        return bool(self.normalizer.get(3, 1))

    @property
    def changes_text(self) -> bool:
        """Whether letters are normalised, or spaces dropped."""
        return bool(self.normalizer.get(2) or self.normalizer.get(4, 1))


def convert(model: bytes, where: str) -> dict[str, Any]:
    """The contents of tokenizer.json. UserError for a kind that SentencePiece has besides Unigram and BPE."""
    found = Model.of(model, where)
    with reading(where, "not a readable SentencePiece model"):
        return _convert(found, where)


def _convert(found: Model, where: str) -> dict[str, Any]:
    scheme = "always" if found.prefix else "never"
    space = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": id, "content": name, **flags, "special": kind != _USER_DEFINED}
        for id, (name, _, kind) in enumerate(found.pieces)
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(found.normalizer)},
        "pre_tokenizer": space,
        "post_processor": None,
        "decoder": space,
        "model": _model(found, where),
    }


def _model(found: Model, where: str) -> dict[str, Any]:
    pieces, kind, fallback = found.pieces, found.kind, bool(found.trainer.get(35, 0))
    unknown = next((id for id, (_, _, kind) in enumerate(pieces) if kind == _UNKNOWN), 0)
    if kind == 1:
        vocab = [[name, score] for name, score, _ in pieces]
        return {"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": fallback}
    if kind == 2:
        names = [name for name, _, _ in pieces]
        made = bpe(names, merges(names, [score for _, score, _ in pieces]))
        return made | {"unk_token": names[unknown], "fuse_unk": True, "byte_fallback": fallback}
    raise UserError(
        f"{where}: a SentencePiece model of kind {kind}; Unigram (1) and BPE (2) become a tokenizer.json."
    )


def _normalizers(normalizer: Mapping[int, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if charsmap := normalizer.get(2):
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})
    if normalizer.get(4, 1):
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return steps
