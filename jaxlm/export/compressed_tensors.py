"""Compressed weights as transformers and vLLM read them. In: a model folder of `jaxlm compress`. Out: a Hugging Face
folder whose config.json names compressed-tensors.

Matrices of Linear modules are the same codes and scales under transformers' names; all else is float32, and named as
such. The tensors of one name in the table (one for each layer) are in memory at a time. The check loads the folder with
transformers in a process of its own (`torch_compressed.py`).
"""

import importlib.util
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.convert import families, table
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.exchange import exporting, layout
from jaxlm.exchange.stored import Stored
from jaxlm.export import compressed_scheme, padded
from jaxlm.export.compressed_scheme import Scheme
from jaxlm.export.difference import Difference
from jaxlm.export.formats import Source

_NEEDS = ("torch", "transformers", "compressed_tensors")
_PROGRAM = pathlib.Path(__file__).with_name("torch_compressed.py")
_SECONDS = 3600
# Of the largest output, or of 1 where that is smaller. Activations in 8 bits are rounded by a step of largest / 127.5
# there and of largest / 127 here: docs/export.md.
_TOLERANCE = {"float": 2e-4, "int8": 0.1}


def write(source: Source, partial: pathlib.Path, say: Callable[[str], None]) -> None:
    """Fills the folder."""
    found = source.stored
    if found.config.kind == "pair":
        raise UserError(f"{found.where}: a pair of two models does not become compressed-tensors here.")
    rows, sizes = families.rows(found.config, found.heads), families.sizes(found.config)
    table.check_cover(rows, found.shapes)
    scheme, coded = compressed_scheme.of(found, rows, sizes)
    shapes = table.their_shapes(rows, found.shapes, sizes)
    names = {name for row in rows if row.theirs in coded for name in row.names(found.shapes[row.ours].shape)}
    specs = _specs(found, scheme, shapes, names)
    plan = layout.sharded(
        {name: shape for name, (shape, _) in specs.items()},
        {name: dtype for name, (_, dtype) in specs.items()},
    )
    files = exporting.text_files(found, plan, shapes, None)
    config = json.loads(files["config.json"]) | {
        "quantization_config": scheme.described(_floating(found, shapes, names))
    }
    files["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    for name, content in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    places = layout.ExportedArrays(partial, plan)
    for theirs, parts in itertools.groupby(sorted(rows, key=lambda row: row.theirs), lambda row: row.theirs):
        _write(found, list(parts), scheme if theirs in coded else None, places, sizes)
    places.finish(found)
    say(f"{len(names)} of {len(shapes)} tensors are codes of {scheme.bits} bits; the others are float32")


def _specs(
    found: Stored, scheme: Scheme, shapes: Mapping[str, tuple[int, ...]], names: set[str]
) -> dict[str, compressed_scheme.Spec]:
    """Name -> shape and dtype of every tensor of the folder."""
    float32 = np.dtype(np.float32)
    specs: dict[str, compressed_scheme.Spec] = {}
    for name, shape in shapes.items():
        specs |= scheme.specs(name, shape) if name in names else {name: (shape, float32)}
    return specs | {name: (array.shape, float32) for name, array in families.constants(found.config).items()}


def _floating(found: Stored, shapes: Mapping[str, tuple[int, ...]], names: set[str]) -> list[str]:
    """Modules with a matrix that is none of the coded ones, and those that share one with a table."""
    here = [name for name, shape in shapes.items() if len(shape) == 2 and name not in names]
    tied = families.of_config(found.config).TIED
    both = {*here, *(copy for copy, original in tied.items() if original in shapes and copy not in names)}
    modules = sorted(name.removesuffix(".weight") for name in both if name.endswith(".weight"))
    # transformers makes a pooler where the file has none, and finds it under either name.
    return modules if any("pooler" in name for name in names) else [*modules, "re:.*pooler.*"]


def _write(
    found: Stored,
    parts: Sequence[Row],
    scheme: Scheme | None,
    places: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
) -> None:
    """The tensors of all layers that these rows make up; without a scheme as floating numbers."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = {row.ours: here for row in parts}
    if scheme is None:
        arrays = found.place(wanted)
        for row in parts:
            table.write(row, np.asarray(arrays[row.ours]), places, sizes)
        return
    assert found.values is not None
    shapes = table.their_shapes(parts, found.shapes, sizes)
    codes = {name: np.empty(shape, np.int8) for name, shape in shapes.items()}
    scales = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    values: Mapping[str, Any] = found.values(wanted)
    for row in parts:
        for array, tensors in zip(compressed_scheme.spread(values[row.ours]), (codes, scales), strict=True):
            table.write(row, array, tensors, sizes)
    for name in shapes:
        for written, array in scheme.tensors(name, codes[name], scales[name]).items():
            places[written][...] = array


def check(source: Source, target: pathlib.Path, say: Callable[[str], None]) -> Sequence[Difference]:
    """transformers' outputs beside ours, on padded rows."""
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise UserError(f'--check needs {", ".join(missing)}: pip install "jaxlm[compressed]".')
    ready, found = source.loaded, source.stored
    if found.config.kind not in ("encoder", "decoder"):
        raise UserError(f"{found.where}: --check compares encoders and decoders. Fix: leave it out.")
    task = next((task for head, task in padded.TASKS.items() if head in found.heads), None)
    task = task or ("fill-mask" if found.config.kind == "decoder" else padded.FEATURES)
    batch = padded.batch_of(ready)
    mask_BT = np.asarray(batch.segments_BT)
    given = {"input_ids": np.asarray(batch.tokens_BT), "attention_mask": mask_BT}
    if getattr(found.config, "types", 0):
        given["token_type_ids"] = np.asarray(batch.types_BT)
    with jax.set_mesh(ready.mesh):
        size = ready.model.config.vocab_size
        ours = jax.device_get(padded.outputs(ready.module, batch, task=task, pooling=None, size=size))
    real = mask_BT.any(axis=1)
    said = _said(target, task, {name: array[real].astype(np.int64) for name, array in given.items()})
    mine = {name: np.asarray(array, np.float64)[real] for name, array in ours.items()}
    return _differences(target, compressed_scheme.rounds(found), said, mine, mask_BT[real])


def _said(folder: pathlib.Path, task: str, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What transformers says, and as `engine` what it is."""
    with tempfile.TemporaryDirectory() as place:
        inputs, outputs = pathlib.Path(place) / "given.npz", pathlib.Path(place) / "said.npz"
        np.savez(inputs, allow_pickle=False, **given)
        # -P: else `import compressed_tensors` there would find this file.
        words = [sys.executable, "-P", str(_PROGRAM), str(folder), task, str(inputs), str(outputs)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_SECONDS)
        if done.returncode:
            raise UserError(
                f"{folder}: transformers fails (exit code {done.returncode}):\n{done.stderr.strip()[-2000:]}"
            )
        return dict(np.load(outputs))


def _differences(
    target: pathlib.Path,
    rounded: bool,
    said: Mapping[str, np.ndarray],
    ours: Mapping[str, np.ndarray],
    mask_BT: np.ndarray,
) -> list[Difference]:
    """Of every output, at tokens that are no padding; `rounded`: activations are, which each side does in its way."""
    what = "activations in 8 bits" if rounded else "weights alone in few bits"
    found = []
    for name, array in ours.items():
        if name not in said or said[name].shape != array.shape:
            raise UserError(
                f"{target} is of another model: {name} is not there, or has another shape than ours."
            )
        chosen = mask_BT > 0 if array.shape[:2] == mask_BT.shape else mask_BT.any(axis=1)
        off, largest = np.abs(said[name] - array)[chosen], np.abs(array[chosen]).max()
        allowed = _TOLERANCE["int8" if rounded else "float"] * max(1.0, float(largest))
        found.append(
            Difference(f"{what}: {name}, padded rows", float(off.max()), allowed, str(said["engine"]))
        )
    return found
