"""A run or model folder becomes a Hugging Face folder. In: its path. Out: what transformers' from_pretrained reads.

Guaranteed: one parameter of ours is in memory at a time; the folder appears complete or not at all; a model that came
from a Hugging Face folder and was not changed goes back with the same bytes of weights, config.json and tokenizer.
"""

import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxlm.convert import families, safetensors_file, table
from jaxlm.errors import UserError
from jaxlm.exchange import card, model_folder, sentence_transformers, stored, tokenizer_files
from jaxlm.exchange.stored import Stored

Dtype = Literal["float32", "bfloat16", "float16", "source"]
SHARD_BYTES = 5 * 10**9
_DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(jnp.bfloat16),
    "float16": np.dtype(np.float16),
}
_INDEX = "model.safetensors.index.json"


def to_hf(
    path: pathlib.Path,
    target: pathlib.Path,
    *,
    say: Callable[[str], None],
    step: int | None = None,
    dtype: Dtype | None = None,
    shard_bytes: int | None = None,
    pooling: sentence_transformers.Pooling | None = None,
) -> None:
    """Writes the folder `target`. Of a run the best step, else the newest, unless `step` says which.

    `dtype`: float32 of a run and source (what came in) of a model folder, unless given. `pooling` adds the files of
    sentence-transformers; a run with a contrastive objective has them anyway. UserError for what cannot be exported.
    """
    if step is None and not model_folder.is_one(path):
        step = stored.best_step(path)
    found = stored.open_stored(str(path), say=say, step=step)
    family = families.of_config(found.config)
    rows, sizes = family.rows(found.config), families.sizes(found.config)
    table.check_cover(rows, found.shapes)
    shapes = table.their_shapes(rows, found.shapes, sizes)
    dtypes = _dtypes(found, shapes, dtype or ("float32" if found.folder is None else "source"))
    shards = _shards(found, shapes, dtypes, shard_bytes)
    pooling = pooling or getattr(getattr(found.run, "objective", None), "pooling", None)
    with model_folder.new_folder(target) as partial:
        # The texts first: what is wrong with them shows before gigabytes are written.
        for name, content in _files(found, shapes, dtypes, shards, pooling).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        places = _Places(partial, shapes, dtypes, shards)
        for row in rows:
            table.write(row, found.host(row.ours), places, sizes)
        if pooling == "cls_mlp":
            names = sentence_transformers.dense_names(shapes)
            dense = {name: np.asarray(places[theirs], np.float32) for name, theirs in names.items()}
            safetensors_file.save(partial / "2_Dense" / "model.safetensors", dense)
    total = sum(math.prod(shapes[name]) * dtypes[name].itemsize for name in shapes)
    say(f"{target}: {len(shapes)} tensors, {total:,} bytes in {len(shards)} file(s), from {found.where}")


class _Places(Mapping[str, np.ndarray]):
    """Every tensor as an array over its place in its file; opened when asked for."""

    def __init__(
        self,
        folder: pathlib.Path,
        shapes: Mapping[str, Sequence[int]],
        dtypes: Mapping[str, np.dtype],
        shards: Mapping[str, Sequence[str]],
    ):
        self._files = {}
        for file, names in shards.items():
            places = safetensors_file.create(
                folder / file, {name: (shapes[name], dtypes[name]) for name in names}
            )
            self._files |= dict.fromkeys(names, places)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._files[name].array(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _dtypes(found: Stored, shapes: Mapping[str, Any], dtype: Dtype) -> dict[str, np.dtype]:
    """How every tensor is stored."""
    if dtype != "source":
        return dict.fromkeys(shapes, _DTYPES[dtype])
    if found.folder is None:
        raise UserError(
            "--dtype=source is for a model folder, which came from somewhere. A run has float32: --dtype=float32."
        )
    family, came = families.of_config(found.config), {}
    for name, (kind, _) in found.folder.origin["tensors"].items():
        came[family.current_name(name)] = _DTYPES.get(kind, _DTYPES["float32"])
    return {name: came.get(family.current_name(name), _DTYPES["float32"]) for name in shapes}


def _shards(
    found: Stored,
    shapes: Mapping[str, Sequence[int]],
    dtypes: Mapping[str, np.dtype],
    shard_bytes: int | None,
) -> dict[str, list[str]]:
    """{file: names}: as they came, or filled one after the other."""
    came = found.folder.origin["tensors"] if found.folder else {}
    files = {name: file for name, (_, file) in came.items()}
    if (
        shard_bytes is None
        and set(files) == set(shapes)
        and all(f.endswith(".safetensors") for f in files.values())
    ):
        return {
            file: [name for name in shapes if files[name] == file] for file in sorted(set(files.values()))
        }
    limit = SHARD_BYTES if shard_bytes is None else shard_bytes
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * dtypes[name].itemsize
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards)}


def _files(
    found: Stored,
    shapes: Mapping[str, Sequence[int]],
    dtypes: Mapping[str, np.dtype],
    shards: Mapping[str, Sequence[str]],
    pooling: sentence_transformers.Pooling | None,
) -> dict[str, bytes]:
    """All files but the weights."""
    files = _origin_files(found)
    hf = config_json(found, dtypes)
    if files.get("config.json") is None or json.loads(files["config.json"]) != hf:
        files["config.json"] = _text(hf)
    files.pop(_INDEX, None)
    if len(shards) > 1 or "model.safetensors" not in shards:
        files[_INDEX] = _index(found, shapes, dtypes, shards)
    causal = any("LM" in name and "Masked" not in name for name in hf.get("architectures") or ())
    if (causal or hf.get("is_encoder_decoder")) and "generation_config.json" not in files:
        keys = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        files["generation_config.json"] = _text({key: hf[key] for key in keys if hf.get(key) is not None})
    files |= tokenizer_files.for_transformers(
        found.tokenizer, found.where, causal=causal, length=_length(found)
    )
    if pooling is not None and "modules.json" not in files:
        width = found.config.hidden
        texts = sentence_transformers.files(pooling, width, _length(found))
        files |= {name: text.encode() for name, text in texts.items()}
    if "README.md" not in files:
        files["README.md"] = card.text(found, hf, sum(map(math.prod, shapes.values())), pooling).encode()
    return files


def config_json(found: Stored, dtypes: Mapping[str, np.dtype]) -> dict[str, Any]:
    """The contents of config.json: what came in where the model is still that, else made from our config."""
    kinds = sorted({dtype.name for dtype in dtypes.values()})
    dtype = kinds[0] if len(kinds) == 1 else "float32"
    original = _original(found)
    if original is not None:
        key = "torch_dtype" if "torch_dtype" in original else "dtype"
        if (
            original.get(key, dtype) != dtype
            and found.folder is not None
            and dtypes != _dtypes(found, dtypes, "source")
        ):
            original[key] = dtype
        return original
    hf = families.of_config(found.config).to_hf_config(found.config)
    if found.tokenizer:
        vocabulary = tokenizer_files.open_files(found.tokenizer, found.where).vocabulary
        encoder = vocabulary.mask >= 0 and not hf.get("is_encoder_decoder")
        roles = ("pad",) if encoder else ("bos", "eos", "pad")
        for role in roles:
            if (id := getattr(vocabulary, role)) >= 0:
                hf.setdefault(f"{role}_token_id", id)
    return hf | {"dtype": dtype}


def _original(found: Stored) -> dict[str, Any] | None:
    """The config.json that came in, if it still says what the model is."""
    if found.folder is None or not (path := found.folder.origin_files / "config.json").is_file():
        return None
    original = json.loads(path.read_text(encoding="utf-8"))
    try:
        same = families.config_from_hf(original, list(found.folder.origin["tensors"])) == found.config
    except UserError:
        same = False
    return original if same else None


def _origin_files(found: Stored) -> dict[str, bytes]:
    if found.folder is None or not found.folder.origin_files.is_dir():
        return {}
    root = found.folder.origin_files
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _index(
    found: Stored,
    shapes: Mapping[str, Sequence[int]],
    dtypes: Mapping[str, np.dtype],
    shards: Mapping[str, Sequence[str]],
) -> bytes:
    weight_map = {name: file for file, names in shards.items() for name in names}
    came = _origin_files(found).get(_INDEX)
    if came is not None and json.loads(came).get("weight_map") == weight_map:
        return came
    total = sum(math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items())
    count = sum(map(math.prod, shapes.values()))
    metadata = {"total_parameters": count, "total_size": total}
    return _text({"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))})


def _length(found: Stored) -> int:
    if found.run is not None:
        return max(stage.length for stage in found.run.stages)
    return getattr(found.config, "max_positions", 512)


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=False) + "\n").encode()
