"""The settings beside a tokenizer.json. In: its contents and the `Settings`. Out: contents that say both.

As transformers: added tokens have the flags of the settings, and the classes of BERT and GPT-2 make their steps of the
settings, whatever the file says.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any

from jaxlm.data.tokens.settings import CLASSES, FIX, Settings
from jaxlm.errors import UserError

# key of the settings -> field of a BertNormalizer, and what its class takes where nothing is said
_NORMALIZER = {
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}


def merged(config: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The contents with the settings in them; the same where there are none. UserError where the two disagree."""
    made = dict(config) | {
        "model": dict(config["model"])
    }  # vocabularies are large: copied is what may change
    made |= {key: copy.deepcopy(config[key]) for key in ("normalizer", "pre_tokenizer") if key in config}
    if settings.kind in ("", *CLASSES["vocab.txt"]):
        _set_bert(made, settings)
    if settings.kind in CLASSES["vocab.json"] and settings.flag("add_prefix_space", None) is not None:
        for step in _steps(made.get("pre_tokenizer"), "ByteLevel"):
            step["add_prefix_space"] = settings.values["add_prefix_space"]
    _check_sentencepiece(made, settings)
    held = {token["id"]: token for token in made.get("added_tokens") or []}
    given = {token["content"] for token in settings.added}
    tokens = settings.tokens(ids(made))
    changed = held | {t["id"]: t for t in tokens if t["content"] in given or t["id"] not in held}
    if changed != held:
        made["added_tokens"] = [changed[id] for id in sorted(changed)]
    return made


def ids(config: Mapping[str, Any]) -> dict[str, int]:
    """The id of every piece and added token."""
    vocab = config["model"]["vocab"]
    pieces = vocab if isinstance(vocab, dict) else {piece: id for id, (piece, _) in enumerate(vocab)}
    return pieces | {token["content"]: token["id"] for token in config.get("added_tokens") or []}


def _set_bert(config: dict[str, Any], settings: Settings) -> None:
    for step in _steps(config.get("normalizer"), "BertNormalizer"):
        for key, (field, default) in _NORMALIZER.items():
            if settings.kind or key in settings.values:
                step[field] = settings.flag(key, default)
    model = config["model"]
    if model.get("type") == "WordPiece" and settings.roles.get("unk") in model["vocab"]:
        model["unk_token"] = settings.roles["unk"]


def _check_sentencepiece(config: Mapping[str, Any], settings: Settings) -> None:
    """transformers makes the steps of these classes of the settings; here the file's count, so they must agree."""
    normal, before = (json.dumps(config.get(step)) for step in ("normalizer", "pre_tokenizer"))
    said: dict[str, bool] = {}
    if settings.kind == "AlbertTokenizer":
        said = {"do_lower_case": '"Lowercase"' in normal, "keep_accents": '"StripAccents"' not in normal}
    if settings.kind in ("AlbertTokenizer", "XLMRobertaTokenizer", "LlamaTokenizer"):
        said["add_prefix_space"] = '"Prepend"' in normal or '"prepend_scheme": "never"' not in before
    for key, there in said.items():
        if settings.flag(key, None) not in (None, there):
            raise UserError(
                f"tokenizer settings {settings.where}: {key}={settings.values[key]}, but the tokenizer.json beside it "
                f"was made with {there}. {FIX}"
            )


def _steps(step: Any, kind: str) -> list[dict[str, Any]]:
    """The steps of one kind in a normaliser or pre-tokeniser, which may be a sequence."""
    if not isinstance(step, dict):
        return []
    inner = step.get("normalizers") or step.get("pretokenizers") or []
    return [step] if step.get("type") == kind else [found for each in inner for found in _steps(each, kind)]
