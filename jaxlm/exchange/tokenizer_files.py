"""A tokenizer's files, byte for byte. In: a folder, or weights. Out: contents by name; or what transformers reads.

Guaranteed: a tokenizer that came in goes out as it came; one that jaxlm trained goes out with its special tokens and
the template that puts them around a text, so that AutoTokenizer gives the ids that training saw.
"""

import contextlib
import json
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from jaxlm.data.places import expanded
from jaxlm.data.tokenizer import Pretrained, load
from jaxlm.data.tokens import gguf_tokenizer, settings, spiece_json
from jaxlm.data.tokens.json_tokenizer import JsonTokenizer
from jaxlm.data.tokens.subwords import Tokenizer
from jaxlm.errors import UserError, reading
from jaxlm.formats import weights

NAMES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "encoder.json",
    "vocab.bpe",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
)
_LIMIT = 256 * 2**20  # bytes of one file
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def of_folder(path: pathlib.Path) -> dict[str, bytes]:
    """The files in a folder of our own."""
    return {name: (path / name).read_bytes() for name in NAMES if (path / name).is_file()}


def of_weights(found: weights.Weights) -> dict[str, bytes]:
    """The files beside weights; of a GGUF without any, those that its metadata make."""
    files = {}
    for name in NAMES:
        if found.folder.has(name):
            path = found.folder.file(name)
            if path.stat().st_size > _LIMIT:
                raise UserError(f"{path} has more than {_LIMIT} bytes: no tokenizer is that large.")
            files[name] = path.read_bytes()
    _check_class(files, found)
    if found.gguf is not None and "tokenizer.json" not in files:
        files |= {
            n: text.encode() for n, text in gguf_tokenizer.files(found.gguf.metadata, found.gguf.path).items()
        }
    return files


def _check_class(files: dict[str, bytes], found: weights.Weights) -> None:
    """Where no file beside the tokenizer says how its vocabulary is used, config.json does."""
    vocabularies = [name for name in files if name.endswith((".model", "vocab.txt", "vocab.json"))]
    if not vocabularies or "tokenizer.json" in files:
        return
    if not (kind := settings.model_class(found.config, vocabularies[0])):
        return
    said = files.get(settings.CONFIG, b"{}")
    if b"_class" not in said:
        settings.check_class(kind, vocabularies[0], f"of {found.folder.path}")
        with reading(f"tokenizer settings {found.folder.path}/{settings.CONFIG}"):
            files[settings.CONFIG] = json.dumps({**json.loads(said), "tokenizer_class": kind}).encode()


def unknown_keys(files: Mapping[str, bytes], where: str) -> list[str]:
    """A line where the settings have keys that neither transformers nor jaxlm knows, so that nobody counts on them."""
    with _folder(files) as folder:
        keys = settings.read(folder).unknown
    return (
        [f"{where}: {', '.join(keys)} in {settings.CONFIG}: unknown here, and without effect"] if keys else []
    )


@contextlib.contextmanager
def _folder(files: Mapping[str, bytes]) -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (pathlib.Path(folder) / name).write_bytes(content)
        yield pathlib.Path(folder)


def open_files(files: Mapping[str, bytes], where: str) -> Tokenizer:
    """The tokenizer that files make. UserError when there is none among them."""
    if not files:
        raise UserError(f"{where} has no tokenizer: looked for {', '.join(NAMES)}.")
    with _folder(files) as folder:
        try:
            return load(folder)
        except UserError as error:
            raise UserError(str(error).replace(str(folder), where)) from error


def check_size(tokenizer: Tokenizer, vocab_size: int, where: str) -> None:
    """UserError when the model has no entry for some of the tokens."""
    if tokenizer.size > vocab_size:
        raise UserError(
            f"{where}: the tokenizer has {tokenizer.size} tokens, the model {vocab_size}. Tokenizer and weights "
            "are not of one model."
        )


def for_transformers(
    files: Mapping[str, bytes], where: str, *, causal: bool, types: bool, length: int
) -> dict[str, bytes]:
    """The files as they came, if they came with their settings; else with what AutoTokenizer needs besides."""
    if not files or b"_class" in files.get("tokenizer_config.json", b""):
        return dict(files)
    tokenizer = open_files(files, where)
    made = as_json(files, tokenizer, where)
    # An encoder's template belongs to it; a decoder reads bare text, whatever its tokenizer was trained for.
    if made.get("post_processor") is None or causal:
        made["post_processor"] = None if causal else _template(tokenizer)
    said: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length}
    inputs = ["input_ids", *["token_type_ids"] * types, "attention_mask"]
    said |= {"clean_up_tokenization_spaces": False, "model_input_names": inputs}
    vocabulary = tokenizer.vocabulary
    said |= {
        f"{role}_token": tokenizer.token(id)
        for role in _ROLES
        if (id := getattr(vocabulary, role)) >= 0 and (role not in ("bos", "eos") or vocabulary.mask < 0)
    }
    return dict(files) | {
        "tokenizer.json": json.dumps(made, ensure_ascii=False, indent=1).encode(),
        "tokenizer_config.json": (json.dumps(said, ensure_ascii=False, indent=1) + "\n").encode(),
    }


def as_json(files: Mapping[str, bytes], tokenizer: Tokenizer, where: str) -> dict[str, Any]:
    """The contents of a tokenizer.json with the same ids."""
    if isinstance(tokenizer, JsonTokenizer):
        return json.loads(tokenizer.text)
    model = next((content for name, content in files.items() if name.endswith(".model")), None)
    if model is None or getattr(tokenizer, "layout", "own") != "own" or getattr(tokenizer, "extra_ids", 0):
        raise UserError(f"{where}: this tokenizer has no tokenizer.json, and none can be made of it here.")
    return spiece_json.convert(model, where)


def _template(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """What stands around a text: [CLS] and [SEP] of an encoder, </s> behind it of T5."""
    vocabulary = tokenizer.vocabulary
    if vocabulary.cls >= 0 and vocabulary.sep >= 0 and vocabulary.mask >= 0:
        first, last = vocabulary.cls, vocabulary.sep
    elif vocabulary.eos >= 0:
        first, last = None, vocabulary.eos
    else:
        return None
    names = {id: tokenizer.token(id) for id in (first, last) if id is not None}

    def special(id: int, kind: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": names[id], "type_id": kind}}

    def text(name: str, kind: int) -> list[dict[str, Any]]:
        return [{"Sequence": {"id": name, "type_id": kind}}, special(last, kind)]

    head = [] if first is None else [special(first, 0)]
    return {
        "type": "TemplateProcessing",
        "single": head + text("A", 0),
        "pair": head + text("A", 0) + text("B", 1),
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for id, name in names.items()},
    }


def keep(config: Any, tokenizer: Tokenizer, target: pathlib.Path) -> None:
    """Puts the files of a run's pretrained tokenizer into its folder as they are, settings included."""
    source = expanded(config.path) if isinstance(config, Pretrained) else None
    if source is None or not source.is_dir():
        return
    files = of_folder(source)
    if files and open_files(files, str(source)).fingerprint == tokenizer.fingerprint:
        for name, content in files.items():
            (target / name).write_bytes(content)
