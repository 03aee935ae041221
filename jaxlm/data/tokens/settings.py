"""What stands beside a vocabulary and changes its ids: tokenizer_config.json and the files that were before it.

In: the folder of a tokenizer. Out: its `Settings`. Guaranteed: every key that transformers knows is in one of the
tables here: honoured, refused by name where it says what is not done here, or known to change no id.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxlm.data.tokens import chat_template
from jaxlm.data.tokens.chat_template import ChatTemplate
from jaxlm.data.tokens.subwords import ROLE_FILES, SPECIAL_NAMES
from jaxlm.errors import Damaged, UserError, reading

CONFIG, SPECIAL_MAP = ROLE_FILES
ADDED = "added_tokens.json"
_LIMIT = 64 * 2**20  # bytes of one such file
FIX = (
    "Make a tokenizer.json, which says it all, with transformers: "
    "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
)

HONOURED = frozenset(
    {
        "tokenizer_class",
        *(f"{role}_token" for role in SPECIAL_NAMES),
        *("added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "extra_ids"),
        *("do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space", "keep_accents"),
        *("add_bos_token", "legacy", "model_max_length", "chat_template"),
    }
)
# key -> the values that say what is done here anyway.
REFUSED: Mapping[str, tuple[Any, ...]] = {
    "split_special_tokens": (False,),
    "sp_model_kwargs": ({},),
}
# What transformers does with them changes no id: about decoding, padding, truncation, chats, files; or nothing at all.
HARMLESS = frozenset(
    {
        "add_eos_token",  # a prompt that is to go on has not ended; encoders and their templates have roles
        "remove_space",  # a part of the SentencePiece model
        *("do_basic_tokenize", "never_split", "wordpieces_prefix", "clean_text", "unk_id"),
        *("clean_up_tokenization_spaces", "spaces_between_special_tokens", "errors", "trim_offsets"),
        *("max_len", "max_length", "stride", "truncation_side", "truncation_strategy"),
        *("padding_side", "pad_to_multiple_of", "pad_token_type_id", "pad_token_type", "model_input_names"),
        *("response_schema", "response_template", "chat_control_tokens"),
        "use_default_system_prompt",
        *("name_or_path", "init_inputs", "special_tokens_map_file", "tokenizer_file", "full_tokenizer_file"),
        *("vocab_file", "merges_file", "is_local", "local_files_only", "from_slow", "use_fast", "backend"),
        *(
            "processor_class",
            "auto_map",
            "fix_mistral_regex",
            "source_lang",
            "target_lang",
            "return_token_type_ids",
        ),
    }
)
# Without a tokenizer.json the class says how its vocabulary is used. By name of the file (or how it ends): those that
# are done here, the first of them where nothing is said.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "vocab.txt": ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"),
    "vocab.json": ("GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer"),
    "encoder.json": ("GPT2Tokenizer",),
    "sentencepiece.bpe.model": ("XLMRobertaTokenizer",),
    ".model": ("LlamaTokenizer", "T5Tokenizer"),
}
# What transformers takes when no file says it, by config.json's model_type.
_MODEL_CLASSES = {
    "albert": "AlbertTokenizer",
    "t5": "T5Tokenizer",
    "llama": "LlamaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}
# Of families that are found with other vocabularies, too.
_PAIR_CLASSES = {
    "roberta": "RobertaTokenizer",
    "bart": "BartTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
# Classes that put two [SEP] between the texts of a pair.
TWO_SEPARATORS = ("RobertaTokenizer", "BartTokenizer")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the files say; empty without them."""

    where: str  # for messages
    values: Mapping[str, Any]  # by key
    roles: Mapping[str, str]  # role -> name of its token
    added: tuple[Mapping[str, Any], ...]  # tokens with an id of their own, as in a tokenizer.json, by id
    extra: tuple[str, ...]  # names of further special tokens
    unknown: tuple[str, ...]  # keys that are in no table here
    chat: ChatTemplate | None = None

    @property
    def kind(self) -> str:
        """The class that transformers reads the vocabulary with; '' where nothing says it."""
        return str(self.values.get("tokenizer_class") or "").removesuffix("Fast")

    def flag(self, key: str, default: bool | None) -> bool | None:
        """A key that is true, false or null. UserError for anything else."""
        value = self.values.get(key, default)
        if value is not None and not isinstance(value, bool):
            raise UserError(f"tokenizer settings {self.where}: {key}={value!r}: allowed are true and false.")
        return value

    def tokens(self, ids: Mapping[str, int]) -> list[dict[str, Any]]:
        """The special and added tokens of a vocabulary, by id, as in a tokenizer.json; new ones stand at its end.

        UserError for an id that is not the next one, or another than the vocabulary's, and for a role without a token.
        """
        found, flags = {}, dict.fromkeys(_FLAGS, False) | {"special": True}
        known, size = dict(ids), max(ids.values(), default=-1) + 1
        for token in self.added:
            name, id = token["content"], token["id"]
            if known.setdefault(name, size) != id:
                raise UserError(
                    f"tokenizer settings {self.where}: {name!r} has the id {id} there, and {known[name]} in the "
                    f"vocabulary or as the next one behind it. Settings and vocabulary are not of one model. {FIX}"
                )
            size, found[name] = max(size, id + 1), dict(token)
        for name in self.extra:
            if known.setdefault(name, size) == size:
                size += 1
            found.setdefault(name, {"id": known[name], "content": name, **flags})
        for role, name in self.roles.items():
            if name in known:
                found.setdefault(name, {"id": known[name], "content": name, **flags})
            elif role not in ("pad", "unk"):
                raise UserError(
                    f"tokenizer settings {self.where}: {role}_token={name!r} is no token, of the vocabulary or added. "
                    f"{FIX}"
                )
        return sorted(found.values(), key=lambda token: token["id"])

    def check_class(self, file: str) -> None:
        """UserError for a vocabulary, without a tokenizer.json, of a class that uses it in a way not done here."""
        check_class(self.kind, file, self.where)


def check_class(kind: str, file: str, where: str) -> None:
    """UserError unless the class of tokenizers uses a vocabulary of this name as it is done here."""
    allowed = _allowed(file)
    if kind and kind not in allowed:
        raise UserError(
            f"tokenizer {where}: a {kind} does not use {file} as it is done here ({', '.join(allowed)}). {FIX}"
        )


def model_class(config: Mapping[str, Any], file: str) -> str:
    """The class that a config.json stands for, of a vocabulary of this name; '' for all that says enough itself."""
    family = str(config.get("model_type"))
    given = config.get("tokenizer_class") or _MODEL_CLASSES.get(family, "")
    if not given and (usual := _PAIR_CLASSES.get(family)) in _allowed(file):
        given = usual
    return str(given).removesuffix("Fast")


def _allowed(file: str) -> tuple[str, ...]:
    return next((names for end, names in CLASSES.items() if file.endswith(end)), ())


def read(folder: Path) -> Settings:
    """The settings in a folder. UserError for a file that cannot be read, and for what is not done here."""
    config, where = _object(folder / CONFIG), str(folder / CONFIG)
    values = dict(config)
    if "added_tokens_decoder" in config:  # then transformers looks at no other file
        added = [
            _added(id, token, where) for id, token in _mapping(config, "added_tokens_decoder", where).items()
        ]
    else:
        values |= _object(folder / SPECIAL_MAP)
        special = {_name(values.get(f"{role}_token")) for role in SPECIAL_NAMES} | set(_extra(values))
        plain = dict.fromkeys(_FLAGS[:3], False)
        added = [
            _added(
                id,
                {"content": name, **plain, "normalized": name not in special, "special": name in special},
                where,
            )
            for name, id in _object(folder / ADDED).items()
        ]
    for key, allowed in REFUSED.items():
        if values.get(key) is not None and values[key] not in allowed:
            raise UserError(f"tokenizer settings {where}: {key}={values[key]!r} is not done here. {FIX}")
    roles = {role: name for role in SPECIAL_NAMES if (name := _name(values.get(f"{role}_token")))}
    known = HONOURED | HARMLESS | REFUSED.keys()
    unknown = [
        key for key in values if key not in known and not key.startswith("_") and not key.endswith("_token")
    ]
    added.sort(key=lambda token: token["id"])
    chat = chat_template.of_settings(values, _text(folder / chat_template.FILE), roles, str(folder))
    return Settings(where, values, roles, tuple(added), _extra(values), tuple(unknown), chat)


def _added(id: Any, token: Any, where: str) -> dict[str, Any]:
    """A token as it stands in a tokenizer.json."""
    name = _name(token)
    number = int(id) if isinstance(id, str) and id.isdecimal() and len(id) < 10 else id
    if name is None or type(number) is not int or not 0 <= number < 2**31:
        raise UserError(f"tokenizer settings {where}: the added token {str(token)[:80]!r} has the id {id!r}.")
    flags = token if isinstance(token, dict) else {}
    return {"id": number, "content": name, **{key: bool(flags.get(key, False)) for key in _FLAGS}}


def _extra(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Special tokens without a role, in the order in which they get ids where they have none."""
    named = [
        value for key, value in values.items() if key.endswith("_token") and key[:-6] not in SPECIAL_NAMES
    ]
    listed = values.get("extra_special_tokens") or values.get("additional_special_tokens") or []
    listed = list(listed.values()) if isinstance(listed, dict) else listed if isinstance(listed, list) else []
    return tuple(dict.fromkeys(name for name in map(_name, [*named, *listed]) if name))


def _name(value: Any) -> str | None:
    """The text of a token, which is a text or an object with its flags."""
    name = value.get("content") if isinstance(value, dict) else value
    return name if isinstance(name, str) and name else None


def _mapping(config: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = config[key]
    if not isinstance(value, dict):
        raise UserError(f"tokenizer settings {where}: {key} is no object.")
    return value


def _text(file: Path) -> str | None:
    """What stands in a file; None when there is none."""
    if not file.is_file():
        return None
    with reading(f"tokenizer settings {file}"):
        if (size := file.stat().st_size) > _LIMIT:
            raise Damaged(f"it has {size} bytes; at most {_LIMIT} are read")
        return file.read_text(encoding="utf-8")


def _object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is none. UserError for anything else."""
    text = _text(file)
    if text is None:
        return {}
    with reading(f"tokenizer settings {file}"):
        found = json.loads(text)
        if not isinstance(found, dict):
            raise Damaged(f"it holds a {type(found).__name__}, not a JSON object")
        return found
