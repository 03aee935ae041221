"""StableHLO: programs that jax alone runs, by `jax.export`. In: a model. Out: a folder; docs/export.md describes it.

manifest.json        what is in the folder: functions, inputs, outputs, limits, SHA-256 of every file
PLATFORM/NAME.stablehlo   a function as `jax.export` serialises it
weights.safetensors  every leaf of the parameters, by its path
tokenizer/           the tokenizer's files as they came
run.py               reads all this with jax and numpy
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from jaxlm.errors import UserError
from jaxlm.export import cases, functions, programs
from jaxlm.export import stablehlo_run as runner
from jaxlm.export.formats import Difference, Say, Source
from jaxlm.export.sizes import Sizes
from jaxlm.formats import safetensors_file
from jaxlm.infer import frame, text_reading
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives.frame import Frame

_HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is exported of a model, and what is said of it."""

    functions: Mapping[str, functions.Function]
    sizes: Sizes
    reading: text_reading.Reading | None  # None: it embeds nothing
    frame: Frame | None  # None: it writes nothing


def write(source: Source, partial: pathlib.Path, say: Say) -> None:
    """Fills the empty folder. UserError for a model that is no program for rows of any length."""
    programs.require()
    ready = source.loaded
    around = asked(ready, say)
    told, convention = _programs(ready, around.functions, partial)
    _write_weights(ready.params, partial / runner.WEIGHTS)
    model = programs.plain(ready.model)
    write_tokenizer(ready, partial)
    shutil.copyfile(_HERE / "stablehlo_run.py", partial / "run.py")
    manifest = {
        "format": runner.FORMAT,
        "version": runner.VERSION,
        "calling_convention": convention,
        "platforms": list(programs.PLATFORMS),
        **description(ready, around, told),
        # What programs take, in order: [path, layer], or [path, null] for all of it.
        "weights": {name: programs.weights(model, ready.params, name) for name in programs.PLATFORMS},
        "files": _files(partial),
    }
    manifest["sha256"] = runner.digest(manifest)
    (partial / runner.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def check(source: Source, target: pathlib.Path, say: Say) -> Sequence[Difference]:
    """What a process with jax alone computes on a CPU, beside what we do. UserError for a damaged folder."""
    try:
        manifest = runner.read(target)
    except runner.Refused as error:
        raise UserError(str(error)) from error
    ready = source.loaded
    calls = cases.of(manifest, vocab=ready.model.config.vocab_size)
    theirs = _replayed(target, calls)
    return cases.differences(
        calls, theirs, cases.computed(calls, ready, asked(ready, lambda _: None).functions)
    )


def asked(ready: Loaded, say: Say) -> Asked:
    """All that a model has; what it lacks is said. UserError for one that writes when nothing says how it begins."""
    kind, sizes, how, around = ready.model.config.kind, Sizes.of(ready.model.config), None, None
    if kind in ("encoder", "pair"):
        how = _reading(ready, say)
    if kind in ("decoder", "encoder_decoder"):
        around = frame.of_loaded(ready)
    if left := functions.left_out(ready.stored):
        say(f"heads that no function reads: {', '.join(left)}")
    found = functions.of(ready, sizes, None if how is None else how.pooling, around)
    return Asked(found, sizes, how, around)


def _reading(ready: Loaded, say: Say) -> text_reading.Reading | None:
    """How the folder embeds, if it does."""
    try:
        how = text_reading.chosen(ready)
        ready.tokenizer.vocabulary.require_end("embedding texts")
    except UserError as error:
        say(f"no function `embeddings`: {error}")
        return None
    if how.pooling == "cls_mlp" and "pooler" not in ready.stored.heads:
        say("no function `embeddings`: its pooling reads a pooler, and there is none")
        return None
    return how


def description(ready: Loaded, around: Asked, told: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder says of the model in it; `told`: of its functions."""
    config, stored, how = ready.model.config, ready.stored, around.reading
    texts = how and {
        "pooling": how.pooling,
        "scaled": True,
        "length": how.length,
        "prompt": how.prompt,
        "lowercase": how.lowercase,
    }
    return {
        "made_with": {name: metadata.version(name) for name in ("jaxlm", "jax", "jaxlib")},
        "model": {"family": type(config).__name__, "kind": config.kind},
        "dtype": ready.model.dtype,
        "attention": programs.ATTENTION,  # no kernels: no version promises to keep how they are called
        "limits": dict(around.sizes.limits),
        "functions": told,
        "tokens": _tokens(ready, around.frame),
        "texts": texts,
        "classes": {name: list(classes) for name, classes in stored.class_names().items()},
        "tokenizer": sorted(stored.tokenizer),
    }


def write_tokenizer(ready: Loaded, folder: pathlib.Path) -> None:
    """Its files, as they came."""
    for name, content in ready.stored.tokenizer.items():
        path = folder / "tokenizer" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def _programs(
    ready: Loaded, found: Mapping[str, functions.Function], partial: pathlib.Path
) -> tuple[dict[str, Any], int]:
    """Writes them; what is told of each, and the version of their calling convention."""
    model, told, convention = programs.plain(ready.model), {}, 0
    for name, function in found.items():
        files: dict[str, str] = {}
        for platform in programs.PLATFORMS:
            made = programs.traced(name, function, model, ready.params, platform)
            files[platform] = f"{platform}/{name}.stablehlo"
            (partial / platform).mkdir(exist_ok=True)
            (partial / files[platform]).write_bytes(made.data)
            told[name], convention = signature(function, made), made.convention
        told[name]["programs"] = files
    return told, convention


def signature(function: functions.Function, made: programs.Program) -> dict[str, Any]:
    """What is told of a function."""
    told: dict[str, Any] = {"does": function.does, "pairs": function.pairs}
    return told | {"inputs": _arrays(function.inputs), "outputs": _arrays(made.outputs)}


def _arrays(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Names, dimensions (numbers, or names of sizes) and dtypes."""
    dims = lambda shape: [size if isinstance(size, int) else str(size) for size in shape]
    return [
        {"name": name, "shape": dims(array.shape), "dtype": np.dtype(array.dtype).name}
        for name, array in arrays.items()
    ]


def _write_weights(params: Any, path: pathlib.Path) -> None:
    """Every leaf, under its path."""
    arrays = programs.named(params)
    shapes = {name: (array.shape, np.dtype(array.dtype)) for name, array in arrays.items()}
    places = safetensors_file.create(path, shapes, metadata=None)
    for name, array in arrays.items():
        places.array(name)[...] = np.asarray(array)


def _tokens(ready: Loaded, around: Frame | None) -> dict[str, Any]:
    """Ids that stand around texts."""
    vocabulary = ready.tokenizer.vocabulary
    before, after = vocabulary.marks
    ids: dict[str, Any] = {"pad": vocabulary.pad, "before": before, "after": after}
    if around is not None:
        ids |= {"before": around.before, "after": around.after, "start": around.start, "stops": around.stops}
    return ids


def _files(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": runner.file_digest(path),
        }
        for path in found
    }


def _replayed(target: pathlib.Path, calls: Sequence[cases.Case]) -> list[dict[str, np.ndarray]]:
    """Outputs of the cases in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="jaxlm-check-") as folder:
        given, made = pathlib.Path(folder, "given.npz"), pathlib.Path(folder, "made.npz")
        cases.save(given, calls)
        program = str(_HERE / "stablehlo_replay.py")
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-IB", program, str(target), str(given), str(made)],
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError(
                f"{target}: run.py ended with exit code {done.returncode}: {done.stderr.strip()[-1500:]}"
            )
        return cases.load(made, len(calls))
