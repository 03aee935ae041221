"""A SentencePiece model as a tokenizer.json. In: the bytes of a .model. Out: the JSON that gives the same ids.

Unigram keeps its scores; BPE gets the merges that its scores stand for. The normalisation travels as the model's own
compiled table.
"""

import base64
from typing import Any

from jaxlm.data.tokens.gguf_tokenizer import bpe, merges
from jaxlm.errors import UserError, reading
from jaxlm.formats.protobuf import fields, float32

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_SPACE = "▁"


Piece = tuple[str, float, int]  # text, score, kind


def convert(model: bytes, where: str) -> dict[str, Any]:
    """The contents of tokenizer.json. UserError for a kind that SentencePiece has besides Unigram and BPE."""
    with reading(where, "not a readable SentencePiece model"):
        return _convert(model, where)


def _convert(model: bytes, where: str) -> dict[str, Any]:
    pieces: list[Piece] = []
    settings: dict[int, dict[int, Any]] = {2: {}, 3: {}}  # of the trainer, of the normaliser
    for number, value in fields(model):
        if number == 1:
            piece = dict(fields(value))
            pieces.append((piece[1].decode(), float32(piece.get(2, 0)), piece.get(3, 1)))
        elif number in settings:
            settings[number] = dict(fields(value))
    normalizer = settings[3]
    scheme = "always" if normalizer.get(3, 1) else "never"
    space = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": id, "content": name, **flags, "special": kind != _USER_DEFINED}
        for id, (name, _, kind) in enumerate(pieces)
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(normalizer)},
        "pre_tokenizer": space,
        "post_processor": None,
        "decoder": space,
        "model": _model(pieces, settings[2], where),
    }


def _model(pieces: list[Piece], trainer: dict[int, Any], where: str) -> dict[str, Any]:
    kind, fallback = trainer.get(3, 1), bool(trainer.get(35, 0))
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


def _normalizers(normalizer: dict[int, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if charsmap := normalizer.get(2):
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap).decode()})
    if normalizer.get(4, 1):
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    return steps
