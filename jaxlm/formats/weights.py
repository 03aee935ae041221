"""A model's folder as others publish it. In: its path. Out: config.json, and all tensors as one source, unread.

Taken, in this order: safetensors (one file, else shards with an index), GGUF, Flax msgpack, PyTorch .bin (only when
allowed) and the original TensorFlow release of BERT. Guaranteed: every name of a file is checked before it is opened,
every tensor of an index is in the shard that it says; see `folder` and the readers for what else is refused.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxlm.errors import UserError
from jaxlm.formats import flax_file, gguf_file, gguf_model, safetensors_file, tensorflow_file, torch_file
from jaxlm.formats.folder import Folder
from jaxlm.formats.source import Entry, Tensors

Pickles = Literal["refuse", "weights-only"]
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w.-]+")


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a folder holds."""

    folder: Folder
    config: Mapping[str, Any]  # config.json
    source: Tensors
    kind: Literal["safetensors", "gguf", "flax", "torch", "tensorflow"]
    gguf: gguf_file.Gguf | None = None


def find(name: str | os.PathLike[str]) -> pathlib.Path:
    """The folder (or .gguf file) of a path, or of a hub's model that is in the local cache. Downloads nothing."""
    path = pathlib.Path(os.path.expanduser(name))
    if path.exists():
        return path
    text = os.fspath(name)
    if _HUB_NAME.fullmatch(text) and (cached := _cached(text)):
        return cached
    hint = (
        f" If it is a model of the Hugging Face hub, download it first: hf download {text} --local-dir SOMEWHERE"
        if _HUB_NAME.fullmatch(text)
        else ""
    )
    raise UserError(f"{text}: no such folder, and jaxlm downloads nothing.{hint}")


def open_folder(path: str | os.PathLike[str], *, allow_pickle: Pickles = "refuse") -> Weights:
    """Finds config and weights of a folder, or of one .gguf file. UserError for all that is not right."""
    place = find(path)
    if place.suffix == ".gguf" and place.is_file():
        return _gguf(Folder(place.parent), place.name)
    folder = Folder(place)
    for name, kind, read in _READERS:
        # One file before an index, as transformers: its save_pretrained leaves the index of an earlier save behind.
        if folder.has(name):
            found = _read(folder, name, kind, read, allow_pickle)
            return Weights(folder, _config(folder), Tensors(found, str(place / name)), kind)
        if folder.has(name + ".index.json"):
            found = _sharded(folder, name + ".index.json", kind, read, allow_pickle)
            return Weights(folder, _config(folder), found, kind)
        if kind == "safetensors" and len(ggufs := sorted(place.glob("*.gguf"))) == 1:
            return _gguf(folder, ggufs[0].name)
    for index in sorted(place.glob("*.ckpt.index")):
        return _tensorflow(folder, index.name.removesuffix(".index"))
    have = ", ".join(sorted(entry.name for entry in place.iterdir())[:12]) or "nothing"
    raise UserError(
        f"{place} has no weights: looked for {', '.join(name for name, _, _ in _READERS)} (or an index of shards), "
        f"one .gguf and *.ckpt.index. It holds {have}."
    )


def _config(folder: Folder) -> Mapping[str, Any]:
    """config.json. UserError where it says that weights are codes of other engines, which are not read."""
    config = folder.json("config.json")
    if how := config.get("quantization_config"):
        name = how.get("quant_method") if isinstance(how, Mapping) else how
        raise UserError(
            f"{folder.path}: its weights are compressed ({name}), which is not read here. Fix: name the folder that it "
            "was made of, and compress that with jaxlm compress."
        )
    return config


_Read = Callable[[pathlib.Path, str], dict[str, Entry]]
_READERS: tuple[tuple[str, Literal["safetensors", "flax", "torch"], _Read], ...] = (
    ("model.safetensors", "safetensors", safetensors_file.entries),
    ("flax_model.msgpack", "flax", flax_file.entries),
    ("pytorch_model.bin", "torch", torch_file.entries),
)


def _read(folder: Folder, name: str, kind: str, read: _Read, allow_pickle: Pickles) -> dict[str, Entry]:
    if kind == "torch" and allow_pickle != "weights-only":
        raise UserError(
            f"{folder.path / name} is a pickle, a format that can run programs. --allow-pickle=weights-only reads "
            "it without running anything: names and tensors are taken, the rest refused. Better: safetensors."
        )
    return read(folder.file(name), str(folder.path / name))


def _sharded(folder: Folder, index: str, kind: str, read: _Read, allow_pickle: Pickles) -> Tensors:
    """All tensors of the shards that an index names."""
    where, weight_map = folder.path / index, folder.json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
        raise UserError(f"{where}: no weight_map from names to files. The index is damaged; fetch it again.")
    found: dict[str, Entry] = {}
    for file in sorted(set(weight_map.values())):
        if not folder.has(file):
            raise UserError(f"{where} names {file}, which is not in the folder. Fetch that file too.")
        entries = _read(folder, file, kind, read, allow_pickle)
        named = {name for name, shard in weight_map.items() if shard == file}
        if kind == "flax":  # its index has Flax's names, with slashes; the shards say what they hold
            named = set(entries)
        for name in sorted(named ^ set(entries)):
            problem = (
                f"is not in {file}, where {index} has it" if name in named else f"of {file} is not in {index}"
            )
            raise UserError(
                f"{folder.path}: {name} {problem}. Index and shards are not of one model; fetch both again."
            )
        if twice := sorted(found.keys() & entries.keys()):
            raise UserError(f"{folder.path}: {twice[0]} is in two shards. Fetch the model again.")
        found |= entries
    return Tensors(found, str(where))


def _gguf(folder: Folder, name: str) -> Weights:
    file = gguf_file.read(folder.file(name), str(folder.path / name))
    config = folder.json("config.json") if folder.has("config.json") else gguf_model.config(file)
    return Weights(folder, config, gguf_model.source(file), "gguf", file)


def _tensorflow(folder: Folder, prefix: str) -> Weights:
    folder.file(prefix + ".index")
    name = "config.json" if folder.has("config.json") else "bert_config.json"
    config = {"model_type": "bert", "architectures": ["BertForPreTraining"]} | folder.json(name)
    found = tensorflow_file.entries(folder.path / prefix)
    for file in sorted({pathlib.Path(entry.file).name for entry in found.values()}):
        folder.file(file)  # no link that leads out; nothing was read yet
    return Weights(folder, config, Tensors(found, str(folder.path / prefix)), "tensorflow")


def _cached(name: str) -> pathlib.Path | None:
    """The snapshot of a model in the cache of huggingface_hub: what `main` points to, else the newest."""
    home = os.environ.get("HF_HOME", "~/.cache/huggingface")
    cache = pathlib.Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE", f"{home}/hub")))
    model = cache / f"models--{name.replace('/', '--')}"
    main = model / "refs" / "main"
    if main.is_file() and re.fullmatch(r"[0-9a-f]{40}", revision := main.read_text().strip()):
        snapshot = model / "snapshots" / revision
        if snapshot.is_dir():
            return snapshot
    snapshots = sorted((model / "snapshots").glob("*"), key=lambda path: path.stat().st_mtime)
    return snapshots[-1] if snapshots else None
