"""A run or model folder becomes a Hugging Face folder. In: its path. Out: what transformers' from_pretrained reads.

Guaranteed: one parameter of ours is in memory at a time; the folder appears complete or not at all; a model that came
from a Hugging Face folder and was not changed goes back with the same bytes of weights, config.json and tokenizer.
"""

import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.convert import families, table
from jaxlm.convert.heads import CLASSES
from jaxlm.errors import UserError
from jaxlm.exchange import (
    bases,
    card,
    importing,
    layout,
    model_folder,
    pairs,
    sentence_transformers,
    stored,
    tokenizer_files,
)
from jaxlm.exchange.layout import Dtype
from jaxlm.exchange.stored import Stored
from jaxlm.formats import safetensors_file
from jaxlm.objectives import reading


def to_hf(
    path: pathlib.Path,
    target: pathlib.Path,
    *,
    say: Callable[[str], None],
    step: int | None = None,
    dtype: Dtype | None = None,
    shard_bytes: int | None = None,
    pooling: sentence_transformers.Pooling | None = None,
    base: str = "",
) -> None:
    """Writes the folder `target`. Of a run the best step, else the newest, unless `step` says which.

    `dtype`: float32 of a run and source (what came in) of a model folder, unless given. `pooling` adds the files of
    sentence-transformers; a run with a contrastive objective has them anyway. `base`: of a run with a view, where its
    frozen weights are now. UserError for what cannot be exported.
    """
    foreign = stored.is_foreign(str(path))
    if step is None and not foreign and not model_folder.is_one(path):
        step = stored.best_step(path)
    found = bases.merged(stored.open_stored(str(path), say=say, step=step), base)
    pooling = pooling or getattr(getattr(found.run, "objective", None), "vectors", None)
    dtype = dtype or ("float32" if found.folder is None else "source")
    with model_folder.new_folder(target) as partial:
        for name, one in pairs.apart(found).items():
            (partial / name).mkdir(exist_ok=True)
            said = write_folder(one, partial / name, dtype, shard_bytes, pooling)
            say(f"{target / name}: {said}, from {found.where}")


def write_folder(
    found: Stored,
    partial: pathlib.Path,
    dtype: Dtype,
    shard_bytes: int | None = None,
    pooling: sentence_transformers.Pooling | None = None,
) -> str:
    """Fills the folder of one model; says what is in it."""
    rows, sizes = families.rows(found.config, found.heads), families.sizes(found.config)
    table.check_cover(rows, found.shapes)
    shapes = table.their_shapes(rows, found.shapes, sizes)
    plan = layout.make(found, shapes, dtype, shard_bytes, original(found))
    # The texts first: what is wrong with them shows before gigabytes are written.
    for name, content in text_files(found, plan, shapes, pooling).items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    places = layout.ExportedArrays(partial, plan)
    by_path = {row.ours: row for row in rows}
    for ours, array in found.hosts():
        table.write(by_path[ours], array, places, sizes)
        del array  # before the next ones are read
    places.finish(found)
    if pooling == "cls_mlp":
        _save_dense(partial, places, shapes)
    return f"{len(plan.tensors)} tensors, {plan.bytes:,} bytes in {len(plan.files)} file(s)"


def _save_dense(
    partial: pathlib.Path, places: layout.ExportedArrays, shapes: Mapping[str, Sequence[int]]
) -> None:
    """The pooler, as sentence-transformers' dense step has it."""
    names = sentence_transformers.dense_names(shapes).items()
    dense = {name: np.asarray(places[theirs], np.float32) for name, theirs in names}
    safetensors_file.save(partial / "2_Dense" / "model.safetensors", dense)


def text_files(
    found: Stored,
    plan: layout.Export,
    shapes: Mapping[str, Sequence[int]],
    pooling: sentence_transformers.Pooling | None,
) -> dict[str, bytes]:
    """All files but the weights."""
    files = origin_files(found)
    hf = config_json(found, plan)
    if files.get("config.json") is None or json.loads(files["config.json"]) != hf:
        files["config.json"] = _text(hf)
    came = files.pop(layout.INDEX, None)
    if len(plan.files) > 1 or "model.safetensors" not in plan.files:
        files[layout.INDEX] = layout.index(plan, came)
    causal = any("LM" in name and "Masked" not in name for name in hf.get("architectures") or ())
    if (causal or hf.get("is_encoder_decoder")) and "generation_config.json" not in files:
        keys = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        files["generation_config.json"] = _text({key: hf[key] for key in keys if hf.get(key) is not None})
    types = hf.get("type_vocab_size", 0) > 1
    files |= tokenizer_files.for_transformers(
        found.tokenizer, found.where, causal=causal, types=types, length=_length(found)
    )
    if pooling is not None and "modules.json" not in files:
        texts = sentence_transformers.files(pooling, found.config.hidden, _length(found))
        files |= {name: text.encode() for name, text in texts.items()}
    if "README.md" not in files:
        files["README.md"] = card.text(found, hf, sum(map(math.prod, shapes.values())), pooling).encode()
    return files


def config_json(found: Stored, plan: layout.Export) -> dict[str, Any]:
    """The contents of config.json: what came in where the model is still that, else made from our config."""
    kinds = sorted({place.dtype.name for place in plan.tensors.values() if place.dtype.kind in "fV"})
    dtype = kinds[0] if len(kinds) == 1 else "float32"
    if (came := original(found)) is not None:
        key = "torch_dtype" if "torch_dtype" in came else "dtype"
        if not plan.unchanged and came.get(key, dtype) != dtype:
            came[key] = dtype
        return came
    hf = families.to_hf_config(found.config, found.heads)
    objective = found.run and getattr(found.run.objective, "inner", None)  # which several tasks have not
    if kind := getattr(objective, "problem_type", ""):
        hf["problem_type"] = kind
    for names in (names for head, names in found.class_names().items() if head in CLASSES):
        hf["id2label"] = {str(i): name for i, name in enumerate(names)}
        hf["label2id"] = {name: i for i, name in enumerate(names)}
    if found.tokenizer:
        vocabulary = tokenizer_files.open_files(found.tokenizer, found.where).vocabulary
        encoder = vocabulary.mask >= 0 and not hf.get("is_encoder_decoder")
        roles = ("pad",) if encoder else ("bos", "eos", "pad")
        for role in roles:
            if (id := getattr(vocabulary, role)) >= 0:
                hf.setdefault(f"{role}_token_id", id)
        # What a decoder's row begins with is the objective's business; transformers would take a default of its own.
        if hf.get("is_encoder_decoder") and objective is not None:
            role = getattr(objective, "decoder_start", None)  # None: it reads the same text on both sides
            start = getattr(vocabulary, role) if role else int(reading.start(vocabulary))
            hf["decoder_start_token_id"] = start
    return hf | {"dtype": dtype}


def original(found: Stored) -> dict[str, Any] | None:
    """The config.json that came in, if it still says what the model is."""
    if found.hf is not None:
        came, names = dict(found.hf.config), list(found.hf.source)
    elif found.folder is not None and (path := found.folder.origin_files / "config.json").is_file():
        came, names = json.loads(path.read_text(encoding="utf-8")), list(found.folder.origin["tensors"])
    else:
        return None
    try:
        same = families.config_from_hf(came, names) == found.config
        same = same and families.heads(found.config, names, came) == found.heads
    except UserError:
        same = False
    return came if same else None


def origin_files(found: Stored) -> dict[str, bytes]:
    """What else came with the weights, by name."""
    return {**_origin_files(found), **found.remade}


def _origin_files(found: Stored) -> dict[str, bytes]:
    if found.hf is not None:
        return importing.kept_files(found.hf)
    if found.folder is None or not found.folder.origin_files.is_dir():
        return {}
    root = found.folder.origin_files
    files = {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    files.pop(model_folder.BUFFERS, None)
    return files


def _length(found: Stored) -> int:
    if found.run is not None:
        return max(stage.length for stage in found.run.stages)
    return getattr(found.config, "max_positions", 512)


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
