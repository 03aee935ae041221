"""A tokenizer's files, byte for byte. In: a folder, or weights. Out: contents by name; or files that transformers reads.

Guaranteed: a tokenizer that came in goes out as it came; one that jaxlm trained goes out with its special tokens and the
template that puts them around a text, so that AutoTokenizer gives the ids that training saw.
"""

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

from jaxlm.convert import gguf_tokenizer, weights
from jaxlm.data.subwords import Tokenizer
from jaxlm.data.tokenizer import Pretrained, load
from jaxlm.errors import UserError

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
    if found.gguf is not None and "tokenizer.json" not in files:
        files |= {
            n: text.encode() for n, text in gguf_tokenizer.files(found.gguf.metadata, found.gguf.path).items()
        }
    return files


def open_files(files: Mapping[str, bytes], where: str) -> Tokenizer:
    """The tokenizer that files make. UserError when there is none among them."""
    if not files:
        raise UserError(f"{where} has no tokenizer: looked for {', '.join(NAMES)}.")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (pathlib.Path(folder) / name).write_bytes(content)
        try:
            return load(folder)
        except UserError as error:
            raise UserError(str(error).replace(folder, where)) from error


def check_size(tokenizer: Tokenizer, vocab_size: int, where: str) -> None:
    """UserError when the model has no entry for some of the tokens."""
    if tokenizer.size > vocab_size:
        raise UserError(
            f"{where}: the tokenizer has {tokenizer.size} tokens, the model {vocab_size}. Tokenizer and weights are not of "
            "one model."
        )


def keep(config: Any, tokenizer: Tokenizer, target: pathlib.Path) -> None:
    """Puts the files of a run's pretrained tokenizer into its folder as they are, settings included."""
    source = pathlib.Path(config.path).expanduser() if isinstance(config, Pretrained) else None
    if source is None or not source.is_dir():
        return
    files = of_folder(source)
    if files and open_files(files, str(source)).fingerprint == tokenizer.fingerprint:
        for name, content in files.items():
            (target / name).write_bytes(content)
