"""Adapters that PEFT has no method for (Houlsby, Pfeiffer, BitFit, several views, ...) as a folder of the same shape.
In: a run with views. Out: DIR/{adapter_model.safetensors, adapter_config.json, tokenizer/}, or a `Stored` of one.

The tensors are what was trained, under the full paths of parameters; the config has the run and the fingerprint of its
base. Guaranteed: what is read is the checkpoint that was written, to the bit; on another base it is refused.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxlm.config import tree
from jaxlm.config.folder import run_of
from jaxlm.errors import UserError
from jaxlm.exchange import model_folder, tokenizer_files
from jaxlm.formats import safetensors_file
from jaxlm.formats.folder import Folder

CONFIG, TENSORS, TOKENIZER = "adapter_config.json", "adapter_model.safetensors", "tokenizer"
KIND = "JAXLM"  # in place of a method of PEFT's
_FLOAT32 = np.dtype("float32")


def write(target: pathlib.Path, found: Any, trained: Mapping[str, Any], base: str) -> None:
    """Writes the folder of a checkpoint `found` and its parameters by path; `base`: what it names as that."""
    run = found.run
    about = {
        "peft_type": KIND,
        "base_model_name_or_path": base or None,
        "methods": [type(view).__name__ for view in run.view],
        "base": found.meta["base"],
        "step": found.step,
        "metrics": dict(found.metrics),
        "tokenizer": found.fingerprint,
        "run": tree.to_json(run),
    }
    with model_folder.new_folder(target) as partial:
        (partial / TOKENIZER).mkdir()
        for name, content in found.tokenizer.items():
            (partial / TOKENIZER / name).write_bytes(content)
        safetensors_file.save(partial / TENSORS, {name: np.asarray(x) for name, x in trained.items()})
        (partial / CONFIG).write_text(json.dumps(about, indent=2) + "\n")


def read(path: str | os.PathLike[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of its `Stored`; `about`: its config. UserError for a folder that is damaged."""
    folder = Folder(os.fspath(path))
    where = str(folder.path)
    run = run_of(about.get("run"), f"{where}/{CONFIG}")
    if not isinstance(about.get("base"), dict) or not {"source", "fingerprint"} <= about["base"].keys():
        raise UserError(f"{where}/{CONFIG} does not say which base it was trained on. Fix: export it again.")
    arrays = safetensors_file.load(folder.file(TENSORS))
    shapes = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in arrays.items()}

    def place(wanted: Mapping[str, jax.sharding.Sharding], dtype: np.dtype = _FLOAT32) -> dict[str, Any]:
        if lacking := sorted({*wanted} - {*arrays}):
            raise UserError(f"{where}/{TENSORS} has no {lacking[0]}. Fix: export it again.")
        return {name: jax.device_put(arrays[name].astype(dtype), at) for name, at in wanted.items()}

    return {
        "where": where,
        "config": run.model,
        "heads": run.heads,
        "shapes": shapes,
        "place": place,
        "tokenizer": tokenizer_files.of_folder(folder.path / TOKENIZER),
        "fingerprint": about.get("tokenizer", ""),
        "step": about.get("step", 0),
        "run": run,
        "meta": {"base": about["base"]},
        "metrics": about.get("metrics", {}),
    }
