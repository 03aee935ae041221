"""A tokenizer in the words of llama.cpp. In: a tokenizer. Out: the `tokenizer.*` entries of a GGUF's metadata.

Three kinds: byte-level BPE (`gpt2`), SentencePiece's BPE (`llama`), WordPiece (`bert`). Guaranteed: what llama.cpp
would split or normalise otherwise is refused by name. `jaxlm/data/tokens/gguf_tokenizer.py` reads the first two.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.data.tokens import gguf_tokenizer as read
from jaxlm.data.tokens import spiece_json
from jaxlm.data.tokens.json_tokenizer import JsonTokenizer
from jaxlm.data.tokens.sentencepiece_model import SentencePieceTokenizer
from jaxlm.data.tokens.subwords import Tokenizer
from jaxlm.errors import UserError

_SPACE = "▁"
# A role -> what its id is called; the spelling of the fourth is llama.cpp's.
_ROLES = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
}


def metadata(
    tokenizer: Tokenizer, size: int, around: tuple[Sequence[int], Sequence[int]] | None, where: str
) -> dict[str, Any]:
    """{key: value} for a model of `size` entries; `around`: the ids that stand before and behind a text.

    UserError for a tokenizer that llama.cpp has not.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        made = _sentencepiece(tokenizer, where)
    elif isinstance(tokenizer, JsonTokenizer):
        made = _json(tokenizer, where)
    else:
        raise UserError(f"{where}: its tokenizer has no tokenizer.json, and llama.cpp needs its pieces.")
    tokens, kinds = made["tokens"], made["token_type"]
    names = {piece for piece in tokens if piece}
    for id in range(size):
        if id >= len(tokens):
            tokens.append("")
            kinds.append(read.UNUSED)
        if not tokens[id]:  # of a gap, or an entry of the model without a token
            tokens[id], kinds[id] = (
                next(n for n in (f"[PAD{id}]", f"[PAD{id}]_") if n not in names),
                read.UNUSED,
            )
    if "scores" in made:
        made["scores"] += [0.0] * (size - len(made["scores"]))
    found = {f"tokenizer.ggml.{key}": value for key, value in made.items()}
    found |= _special(tokenizer, made["model"], around)
    if tokenizer.chat is not None:
        found["tokenizer.chat_template"] = tokenizer.chat.text
    return found


def _special(
    tokenizer: Tokenizer, model: str, around: tuple[Sequence[int], Sequence[int]] | None
) -> dict[str, Any]:
    """Ids of special tokens, and which of them stand around a text."""
    ids = {role: id for role in _ROLES if (id := tokenizer.special(role)) is not None}
    if model == "bert":
        ids |= {"bos": ids["cls"], "eos": ids["sep"]}  # the ids that llama.cpp puts around a text
    else:
        ids = {role: id for role, id in ids.items() if role in ("bos", "eos", "unk", "pad")}
    found: dict[str, Any] = {f"tokenizer.ggml.{_ROLES[role]}_token_id": id for role, id in ids.items()}
    if model != "bert":
        before, after = around or ((), ())
        found["tokenizer.ggml.add_bos_token"] = ids.get("bos") in before
        found["tokenizer.ggml.add_eos_token"] = ids.get("eos") in after
    return found


def _json(tokenizer: JsonTokenizer, where: str) -> dict[str, Any]:
    kind, config = tokenizer.config["model"].get("type"), tokenizer.config
    if kind == "WordPiece":
        return _wordpiece(tokenizer, where)
    if kind == "BPE" and "ByteLevel" in json.dumps(config.get("pre_tokenizer")):
        return _byte_level(tokenizer, where)
    if kind == "BPE" and config["model"].get("byte_fallback"):
        return _pieces_of_json(tokenizer, where)
    raise UserError(
        f"{where}: a tokenizer of kind {kind}: llama.cpp's models of these kinds have byte-level BPE, "
        "SentencePiece's BPE with bytes for unknown letters, or WordPiece."
    )


def _kinds(tokenizer: JsonTokenizer) -> list[int]:
    """Of every piece: ordinary, special, or added to the text's words."""
    added = {one["content"]: bool(one.get("special")) for one in tokenizer.config.get("added_tokens") or []}
    kinds = {None: read.NORMAL, True: read.CONTROL, False: read.USER_DEFINED}
    return [kinds[added.get(piece)] for piece in tokenizer.pieces]


def _byte_level(tokenizer: JsonTokenizer, where: str) -> dict[str, Any]:
    model = tokenizer.config["model"]
    steps = _plain({key: tokenizer.config.get(key) for key in ("normalizer", "pre_tokenizer")})
    fits = [pre for pre in read.PRE if _plain(read.splits(pre)) == steps]
    fits = [pre for pre in fits if bool(model.get("ignore_merges")) == (pre in read.WHOLE_WORDS)]
    if not fits:
        raise UserError(
            f"{where}: its tokenizer.json splits text by a rule that is none of llama.cpp's {', '.join(read.PRE)}: ids "
            "would be others."
        )
    return {
        "model": "gpt2",
        "pre": fits[0],
        "tokens": list(tokenizer.pieces),
        "token_type": _kinds(tokenizer),
        "merges": [" ".join(_pair(merge)) for merge in model["merges"]],
    }


def _plain(step: Any) -> Any:
    """A step without what changes no id: where offsets begin, and sequences of one."""
    if isinstance(step, list):
        return [_plain(one) for one in step]
    if not isinstance(step, dict):
        return step
    made = {key: _plain(value) for key, value in step.items() if key != "trim_offsets"}
    inner = made.get("pretokenizers") or made.get("normalizers")
    return inner[0] if isinstance(inner, list) and len(inner) == 1 else made


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _pieces_of_json(tokenizer: JsonTokenizer, where: str) -> dict[str, Any]:
    """SentencePiece's BPE after its conversion: scores are made that give the same merges."""
    prefix = _begins_with_space(tokenizer.config, where)
    pairs = [_pair(merge) for merge in tokenizer.config["model"]["merges"]]
    groups = [piece for piece, _ in itertools.groupby("".join(pair) for pair in pairs)]
    ranks = {piece: -float(rank) for rank, piece in enumerate(groups)}
    both = list(zip(tokenizer.pieces, _kinds(tokenizer), strict=True))
    lowest = -float(len(groups))
    scores = [ranks.get(piece, lowest) if kind == read.NORMAL else 0.0 for piece, kind in both]
    words = {piece for piece, kind in both if kind == read.NORMAL}
    expected = {_pair(merge) for merge in read.merges(tokenizer.pieces, scores)}
    if len(groups) != len(ranks) or {pair for pair in expected if "".join(pair) in words} != set(pairs):
        raise UserError(
            f"{where}: the merges of its tokenizer.json follow from no scores, which llama.cpp's kind has."
        )
    bytes_ = {f"<0x{byte:02X}>" for byte in range(256)}
    kinds = [read.BYTE if piece in bytes_ and kind == read.NORMAL else kind for piece, kind in both]
    if (unknown := tokenizer.special("unk")) is not None:
        kinds[unknown] = read.UNKNOWN
    return _scored(tokenizer.pieces, scores, kinds, prefix)


def _begins_with_space(config: Mapping[str, Any], where: str) -> bool:
    """Whether a space is put before a text. UserError for steps that SentencePiece has not."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepend = {"type": "Prepend", "prepend": _SPACE}
    before, steps = config.get("pre_tokenizer") or {}, config.get("normalizer") or {}
    steps = steps.get("normalizers", [steps] if steps else [])
    if steps in ([prepend, replace], [replace]) and not before:
        return steps[0] == prepend
    if not steps and before.get("type") == "Metaspace" and not before.get("split", True):
        return before.get("prepend_scheme") != "never"
    raise UserError(
        f"{where}: its tokenizer.json changes or splits text as llama.cpp's SentencePiece does not."
    )


def _sentencepiece(tokenizer: SentencePieceTokenizer, where: str) -> dict[str, Any]:
    model = spiece_json.Model.of(tokenizer.model, where)
    if model.kind != 2 or tokenizer.layout != "own" or tokenizer.extra_ids:
        raise UserError(
            f"{where}: of SentencePiece's models llama.cpp reads BPE here, not Unigram or T5's kind."
        )
    if model.changes_text:
        raise UserError(
            f"{where}: its SentencePiece model normalises text (or drops spaces), which llama.cpp does not: ids would "
            "be others. Train with a ByteBpe tokenizer for llama.cpp."
        )
    pieces = [*model.pieces, *((name, 0.0, read.CONTROL) for name in tokenizer.added)]
    names, scores, kinds = (list(column) for column in zip(*pieces, strict=True))
    return _scored(names, scores, kinds, model.prefix)


def _scored(
    names: Sequence[str], scores: Sequence[float], kinds: Sequence[int], prefix: bool
) -> dict[str, Any]:
    return {
        "model": "llama",
        "pre": "default",
        "tokens": list(names),
        "scores": list(map(float, scores)),
        "token_type": list(kinds),
        "add_space_prefix": prefix,
    }


def _wordpiece(tokenizer: JsonTokenizer, where: str) -> dict[str, Any]:
    config: Mapping[str, Any] = tokenizer.config
    normal, splits = config.get("normalizer") or {}, config.get("pre_tokenizer") or {}
    if (
        normal.get("type") != "BertNormalizer"
        or splits.get("type") != "BertPreTokenizer"
        or not (normal.get("clean_text") and normal.get("handle_chinese_chars"))
        or config["model"].get("continuing_subword_prefix", "##") != "##"
        or None in (tokenizer.special("cls"), tokenizer.special("sep"))
    ):
        raise UserError(
            f"{where}: its tokenizer.json is not BERT's (BertNormalizer that cleans text and parts Chinese letters, "
            "BertPreTokenizer, ##, [CLS] and [SEP]), which llama.cpp's kind is."
        )
    kinds = _kinds(tokenizer)
    lower = bool(normal.get("lowercase"))
    accents = normal.get("strip_accents")
    return {
        "model": "bert",
        "tokens": [_phantom(p, k) for p, k in zip(tokenizer.pieces, kinds, strict=True)],
        "token_type": kinds,
        "normalizer.lowercase": lower,
        "normalizer.strip_accents": lower if accents is None else bool(accents),
    }


def _phantom(piece: str, kind: int) -> str:
    """llama.cpp marks the beginnings of words, not what follows them."""
    if kind == read.CONTROL or not piece:
        return piece
    return piece.removeprefix("##") if piece.startswith("##") and len(piece) > 2 else _SPACE + piece
