"""The smaller model as a model folder. In: what it was made of, and the recipe. Out: DIR, which every command takes."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxlm.compress.step import Compress, Say
from jaxlm.config import Run, tree
from jaxlm.exchange import exporting, model_folder
from jaxlm.exchange.stored import Stored
from jaxlm.infer.loaded import Loaded


def write(target: pathlib.Path, model: Loaded, recipe: Compress, *, say: Say) -> None:
    """A run is kept with its weights, so that they are used as before. UserError when something stands there."""
    found = model.stored
    model_folder.write(
        target,
        model.model.config,
        model.model.heads,
        model.params,
        origin=_origin(found, recipe),
        fingerprint=found.fingerprint or model.tokenizer.fingerprint,
        tokenizer=found.tokenizer,
        files=exporting.origin_files(found),
        say=say,
        run=_run(found, model),
    )


def _origin(found: Stored, recipe: Compress) -> Mapping[str, Any]:
    return {
        "from": found.where,
        "kind": "compressed",
        "recipe": tree.to_json(recipe),
        "tensors": {},
        "copies": {},
        "buffers": [],
        "metadata": {},
    }


def _run(found: Stored, model: Loaded) -> Run | None:
    """That trained it: what stood beside its weights is a part of them now."""
    if found.run is None:
        return None
    return dataclasses.replace(found.run, model=model.model.config, view=(), init_from="")
