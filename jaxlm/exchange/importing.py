"""A Hugging Face folder becomes a model folder. In: `hf:DIR` and where to. Out: the folder.

Guaranteed: everything is checked before anything is written; a tensor is read once, straight into the parameter that it
is a part of; the folder appears complete or not at all; config.json, tokenizer and card are kept byte for byte.
"""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax

from jaxlm.convert.table import check_names, listed
from jaxlm.errors import UserError
from jaxlm.exchange import model_folder, sentence_transformers, tokenizer_files
from jaxlm.exchange.stored import Stored, of_hf
from jaxlm.formats import safetensors_file, weights
from jaxlm.models.paths import nest

_KEPT = ("config.json", "generation_config.json", "README.md", "LICENSE", "model.safetensors.index.json")
_LIMIT = 64 * 2**20  # bytes of one such file


def from_hf(
    name: str,
    target: pathlib.Path,
    *,
    say: Callable[[str], None],
    allow_pickle: weights.Pickles = "refuse",
    shardings: Callable[[Stored], dict[str, jax.sharding.Sharding]] | None = None,
) -> Stored:
    """Writes the model folder `target`; returns what was read. UserError for all that is not right, with nothing
    written.

    `shardings`: path -> where a parameter lies meanwhile; the default device without it.
    """
    model_folder.check_free(target)
    found = of_hf(name, allow_pickle=allow_pickle)
    check_names(found.missing, found.unexpected, found.where)
    assert found.hf is not None and found.plan is not None
    fingerprint = ""
    if found.tokenizer:
        tokenizer = tokenizer_files.open_files(found.tokenizer, found.where)
        tokenizer_files.check_size(tokenizer, found.config.vocab_size, found.where)
        fingerprint = tokenizer.fingerprint
        for line in tokenizer_files.unknown_keys(found.tokenizer, found.where):
            say(line)
    else:
        say(f"{found.where} has no tokenizer; the model folder has none either")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    places = shardings(found) if shardings else dict.fromkeys(found.shapes, here)
    model_folder.write(
        target,
        found.config,
        found.heads,
        nest(found.place(places)),
        origin=_origin(found),
        fingerprint=fingerprint,
        tokenizer=found.tokenizer,
        files=kept_files(found.hf) | _buffers(found),
        say=say,
    )
    say(
        f"{target}: {type(found.config).__name__} with {listed('parameters', list(found.shapes)).split(' (')[0]}"
    )
    return found


def _origin(found: Stored) -> dict[str, Any]:
    """Where the weights came from, and how each tensor was stored: what an export under their own names needs."""
    assert found.hf is not None and found.plan is not None
    entries = found.hf.source.entries.items()
    return {
        "from": found.where,
        "kind": found.hf.kind,
        "tensors": {name: [entry.dtype.name, pathlib.Path(entry.file).name] for name, entry in entries},
        "buffers": list(found.plan.buffers),
        "copies": dict(found.plan.copies),
        "metadata": {
            name: safetensors_file.metadata(found.hf.folder.file(name)) for name in _shards(found.hf)
        },
    }


def _shards(found: weights.Weights) -> list[str]:
    files = {pathlib.Path(entry.file).name for entry in found.source.entries.values()}
    return sorted(files) if found.kind == "safetensors" else []


def _buffers(found: Stored) -> dict[str, bytes]:
    """Masks and counters that some files hold besides weights: kept, so that the same file can go out again."""
    assert found.hf is not None and found.plan is not None
    if found.hf.kind != "safetensors" or not found.plan.buffers:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / model_folder.BUFFERS
        safetensors_file.save(path, {name: found.hf.source.read(name) for name in found.plan.buffers})
        return {model_folder.BUFFERS: path.read_bytes()}


def kept_files(found: weights.Weights) -> dict[str, bytes]:
    """What else is kept of the folder."""
    names = [name for name in _KEPT if found.folder.has(name)]
    names += sentence_transformers.names(found.folder)
    files = {}
    for name in names:
        path = found.folder.file(name)
        if path.stat().st_size > _LIMIT:
            raise UserError(f"{path} has more than {_LIMIT} bytes; a file of that name has a few thousand.")
        files[name] = path.read_bytes()
    return files
