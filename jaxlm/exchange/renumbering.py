"""Files that name tokens by number, when tokens go and the others get new numbers. In: a `Stored`, old id -> new id.

Out: the files with the new ids. A tokenizer goes out as a tokenizer.json, which every other form (vocab.txt, vocab.json
with merges.txt, a SentencePiece .model) becomes; what else stands beside it stays.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from jaxlm.data.tokens import chat_template, settings, trimming
from jaxlm.data.tokens.json_tokenizer import FILE
from jaxlm.data.tokens.subwords import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import tokenizer_files
from jaxlm.exchange.stored import Stored

Ids = Mapping[int, int]
_SETTINGS = ("config.json", "generation_config.json")
_LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "forced_decoder_ids")
# Of the class that read another form; a tokenizer.json says these itself.
_OF_CLASS = ("tokenizer_class", "extra_ids", "add_bos_token", "legacy")


def named(found: Stored) -> set[int]:
    """Ids that config.json and generation_config.json name."""
    ids: set[int] = set()

    def seen(id: int) -> int:
        ids.add(id)
        return id

    for name in _SETTINGS:
        _settings(found.settings(name), seen)
    return ids


def settings_files(found: Stored, ids: Ids) -> dict[str, bytes]:
    """config.json and generation_config.json, those of them that there are."""
    made = {}
    for name in _SETTINGS:
        if values := found.settings(name):
            changed = _settings(values, ids.get)
            sizes = {key: len(ids) for key in ("vocab_size", "decoder_vocab_size") if key in values}
            made[name] = _text(changed | sizes)
    return made


def tokenizer(found: Stored, old: Tokenizer, ids: Ids) -> tuple[dict[str, bytes], Tokenizer]:
    """(its files, the tokenizer that they make). UserError where the tokens cannot get these numbers."""
    files = found.tokenizer
    made = trimming.trimmed(contents(found, old), ids)
    written = {name: files[name] for name in (settings.SPECIAL_MAP, chat_template.FILE) if name in files}
    if settings.CONFIG in files:
        written[settings.CONFIG] = _text(_beside(json.loads(files[settings.CONFIG]), ids, FILE in files))
    if settings.ADDED in files:
        added = json.loads(files[settings.ADDED])
        written[settings.ADDED] = _text({name: ids[id] for name, id in added.items() if id in ids})
    written[FILE] = json.dumps(made, ensure_ascii=False).encode()
    new = tokenizer_files.open_files(written, found.where)
    if new.pieces != [old.token(id) for id in ids]:
        raise UserError(
            f"{found.where}: its tokenizer has tokens whose numbers cannot be changed here. Fix: make a tokenizer.json "
            "with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
        )
    return written, new


def contents(found: Stored, old: Tokenizer) -> dict[str, Any]:
    """Those of its tokenizer.json, or of one with the same ids. UserError where there is none."""
    made = tokenizer_files.as_json(found.tokenizer, old, found.where)
    if old.starts_with_bos and old.vocabulary.bos >= 0:
        raise UserError(
            f"{found.where}: the settings of its tokenizer put a token before every text, and no tokenizer.json says "
            "so. Fix: make one with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
        )
    trimming.check(made, found.where)
    return made


def _beside(values: Mapping[str, Any], ids: Ids, whole: bool) -> dict[str, Any]:
    """tokenizer_config.json; `whole`: a tokenizer.json stood beside it."""
    made = {key: value for key, value in values.items() if whole or key not in _OF_CLASS}
    if isinstance(tokens := made.get("added_tokens_decoder"), dict):
        made["added_tokens_decoder"] = {
            str(ids[int(id)]): token for id, token in tokens.items() if int(id) in ids
        }
    return made


def _settings(values: Mapping[str, Any], change: Callable[[int], int | None]) -> dict[str, Any]:
    """With every id changed, and without those that it makes None."""
    made = {}
    for key, value in values.items():
        if key == "forced_decoder_ids" and value:
            value = [[position, _changed(id, change)] for position, id in value]
        elif key.endswith("_token_id") or key in _LISTS:
            changed = _changed(value, change)
            if changed is None and value is not None:
                continue
            value = changed
        made[key] = value
    return made


def _changed(value: Any, change: Callable[[int], int | None]) -> Any:
    if isinstance(value, list):
        return [new for one in value if (new := _changed(one, change)) is not None]
    return change(value) if isinstance(value, int) and value >= 0 else value


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
