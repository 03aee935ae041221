"""The tokenizer in a GGUF. In: its metadata. Out: the texts of a tokenizer.json and a tokenizer_config.json.

Two kinds exist among Llamas: byte-level BPE with merges (`gpt2`), and SentencePiece's BPE with a score for every piece
(`llama`), whose merges follow from the scores. A split rule that is not known is refused: it would change ids.
`jaxlm/export/gguf_tokenizer.py` is the other direction.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlm.errors import Damaged, UserError, reading

# tokenizer.ggml.pre -> what stands before the bytes; see llama.cpp's src/llama-vocab.cpp for the patterns.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS: Mapping[str, str] = {
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _LLAMA3.replace("{1,3}", ""),
}
PRE = ("gpt-2", "smollm", *_SPLITS)
WHOLE_WORDS = ("llama-bpe", "llama3")  # a word that is a piece needs no merges
_BYTES: dict[str, Any] = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
_DIGITS = {"type": "Digits", "individual_digits": True}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # tokenizer.ggml.token_type
_SPACE = "▁"
# Published are pieces of up to 31 characters and 2.3 merges for a piece.
_LONGEST_PIECE, _MOST_MERGES = 512, 32


def files(metadata: Mapping[str, Any], where: str) -> dict[str, str]:
    """{file name: text}. UserError for a tokenizer of another kind, or a damaged one."""
    with reading(where, "its tokenizer cannot be read"):
        return _files(metadata, where)


def _files(metadata: Mapping[str, Any], where: str) -> dict[str, str]:
    tokens, kinds = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError(f"{where}: no list of tokens in the metadata (tokenizer.ggml.tokens).")
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        kinds = [1] * len(tokens)
    model = metadata.get("tokenizer.ggml.model")
    makers = {"gpt2": _byte_level, "llama": _sentencepiece}
    if model not in makers:
        raise UserError(f"{where}: tokenizer.ggml.model={model!r}: read are {', '.join(makers)}.")
    roles = {}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        id = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if id is not None:
            if not isinstance(id, int) or not 0 <= id < len(tokens):
                raise UserError(
                    f"{where}: tokenizer.ggml.{key}_token_id={id}: there are {len(tokens)} tokens."
                )
            roles[role] = tokens[id]
    made = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, kinds, set(roles.values())),
        "post_processor": _post_processor(metadata, roles, tokens),
    }
    made |= makers[model](metadata, tokens, where)
    settings = {f"{role}_token": token for role, token in roles.items()}
    if isinstance(template := metadata.get("tokenizer.chat_template"), str):
        settings["chat_template"] = template
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    return {
        "tokenizer.json": json.dumps(made, ensure_ascii=False, indent=1),
        "tokenizer_config.json": json.dumps(settings, ensure_ascii=False, indent=1),
    }


def _byte_level(metadata: Mapping[str, Any], tokens: Sequence[str], where: str) -> dict[str, Any]:
    pre, pairs = metadata.get("tokenizer.ggml.pre", "gpt-2"), metadata.get("tokenizer.ggml.merges")
    if not isinstance(pairs, list) or not all(isinstance(m, str) and len(m.split(" ")) == 2 for m in pairs):
        raise UserError(f"{where}: no list of merges in the metadata (tokenizer.ggml.merges).")
    if pre not in PRE:
        raise UserError(
            f"{where}: tokenizer.ggml.pre={pre!r}: known are {', '.join(PRE)}. Put the model's own tokenizer.json "
            "beside the file."
        )
    return splits(pre) | {
        "decoder": _BYTES,
        "model": bpe(tokens, pairs) | {"ignore_merges": pre in WHOLE_WORDS},
    }


def splits(pre: str) -> dict[str, Any]:
    """What a rule of PRE does with a text before its bytes are merged: normalizer and pre_tokenizer."""
    if pre == "gpt-2":
        steps: dict[str, Any] = _BYTES
    elif pre == "smollm":
        steps = {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTES]}
    else:
        rule = {"type": "Split", "pattern": {"Regex": _SPLITS[pre]}, "behavior": "Isolated", "invert": False}
        steps = {"type": "Sequence", "pretokenizers": [rule, _BYTES | {"use_regex": False}]}
    return {"normalizer": {"type": "NFC"} if pre == "qwen2" else None, "pre_tokenizer": steps}


def _sentencepiece(metadata: Mapping[str, Any], tokens: Sequence[str], where: str) -> dict[str, Any]:
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise UserError(f"{where}: {len(tokens)} tokens without as many scores (tokenizer.ggml.scores).")
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    steps = [{"type": "Prepend", "prepend": _SPACE}, replace] if prefix else [replace]
    back = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": back + strip},
        "model": bpe(tokens, merges(tokens, scores))
        | {"unk_token": tokens[unknown], "fuse_unk": True, "byte_fallback": "<0x00>" in tokens},
    }


def merges(tokens: Sequence[str], scores: Sequence[float]) -> list[str]:
    """Every split of a piece into two pieces, best piece first: SentencePiece merges whatever scores highest.

    Raises Damaged for pieces that are no words: their splits would be more than memory holds.
    """
    rank = {token: i for i, token in enumerate(tokens)}
    found: list[tuple[float, int, int, str]] = []
    for token, score in zip(tokens, scores, strict=True):
        if len(token) > _LONGEST_PIECE or len(found) > _MOST_MERGES * len(tokens) + 10_000:
            raise Damaged(
                f"a piece of {len(token)} characters, or more than {_MOST_MERGES} merges for a piece"
            )
        splits = ((token[:i], token[i:]) for i in range(1, len(token)))
        known = ((left, right) for left, right in splits if left in rank and right in rank)
        found += [(-score, rank[left], rank[right], f"{left} {right}") for left, right in known]
    return [merge for *_, merge in sorted(found)]


def bpe(tokens: Sequence[str], pairs: Sequence[str]) -> dict[str, Any]:
    """The model of a tokenizer.json."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {token: id for id, token in enumerate(tokens)},
        "merges": list(pairs),
    }


def _added(tokens: Sequence[str], kinds: Sequence[int], roles: set[str]) -> list[dict[str, Any]]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return [
        {"id": id, "content": token, **flags, "special": kind == CONTROL or token in roles}
        for id, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (CONTROL, USER_DEFINED) or token in roles
    ]


def _post_processor(
    metadata: Mapping[str, Any], roles: Mapping[str, str], tokens: Sequence[str]
) -> dict[str, Any] | None:
    """bos before a text and eos behind it, where the file asks for them; unasked, as llama.cpp has it."""
    spm = metadata.get("tokenizer.ggml.model") == "llama"
    default = spm or metadata.get("tokenizer.ggml.pre") in WHOLE_WORDS
    wanted = [
        role
        for role in ("bos", "eos")
        if role in roles and metadata.get(f"tokenizer.ggml.add_{role}_token", default and role == "bos")
    ]
    if not wanted:
        return None

    def piece(sequence: str, kind: int) -> list[dict[str, Any]]:
        special = {role: [{"SpecialToken": {"id": roles[role], "type_id": kind}}] for role in wanted}
        text = [{"Sequence": {"id": sequence, "type_id": kind}}]
        return special.get("bos", []) + text + special.get("eos", [])

    return {
        "type": "TemplateProcessing",
        "single": piece("A", 0),
        "pair": piece("A", 0) + piece("B", 1),
        "special_tokens": {
            roles[role]: {"id": roles[role], "ids": [tokens.index(roles[role])], "tokens": [roles[role]]}
            for role in wanted
        },
    }
