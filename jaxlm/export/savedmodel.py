"""A SavedModel of TensorFlow: the programs of `stablehlo.py`, called by XlaCallModule. In: a model. Out: a folder.

Its signatures are the functions of `functions.py`, for a CPU, with rows of any number and length; weights are
variables, once. TensorFlow stays in a process of its own (tensorflow_process.py), which is given StableHLO of a version
that it reads: jax writes the newest.
"""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from jax import export

from jaxlm.errors import UserError
from jaxlm.export import cases, programs, stablehlo
from jaxlm.export.formats import Difference, Say, Source

# What TensorFlow 2.21 has; jax 0.10 writes 1.15 and later, which it loads and then cannot call.
VERSION = "1.13.7"
DESCRIPTION = "jaxlm.json"
_PROCESS = pathlib.Path(__file__).parent / "tensorflow_process.py"
# A function that stands for an operation of a later version, with its definition beside it: `erf`. TensorFlow leaves
# the lengths in these definitions open, and then refuses them; of a plain call it fills them in.
_COMPOSITE = re.compile(r'stablehlo\.composite "[\w.]+" (.*?) \{.*?decomposition = (@[\w.]+).*?\} :')


def write(source: Source, partial: pathlib.Path, say: Say) -> None:
    """Fills the empty folder. UserError without TensorFlow, and as `stablehlo.write`."""
    _require()
    ready = source.loaded
    around = stablehlo.asked(ready, say)
    model, told = programs.plain(ready.model), {}
    with tempfile.TemporaryDirectory(prefix="jaxlm-savedmodel-") as folder:
        for name, function in around.functions.items():
            made = programs.traced(name, function, model, ready.params, "cpu")
            pathlib.Path(folder, name).write_bytes(_older(made.data))
            told[name] = stablehlo.signature(function, made) | {"version": made.convention}
        leaves, weights = programs.named(ready.params), programs.weights(model, ready.params, "cpu")
        for number, (path, layer) in enumerate(weights):
            leaf = leaves[path] if layer is None else leaves[path][layer]
            np.save(pathlib.Path(folder, f"{number}.npy"), np.asarray(leaf))
        manifest = stablehlo.description(ready, around, told)
        job = {"functions": told, "weights": len(weights)}
        pathlib.Path(folder, "job.json").write_text(json.dumps(job))
        _run("save", folder, str(partial))
    stablehlo.write_tokenizer(ready, partial)
    (partial / DESCRIPTION).write_text(json.dumps(manifest, indent=1) + "\n")


def check(source: Source, target: pathlib.Path, say: Say) -> Sequence[Difference]:
    """What TensorFlow computes, in a process of its own, beside what we do. UserError for a damaged folder."""
    _require()
    try:
        manifest = json.loads((target / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{target / DESCRIPTION}: cannot be read ({error}). Fix: export again.") from error
    ready = source.loaded
    asked = cases.of(manifest, vocab=ready.model.config.vocab_size)
    with tempfile.TemporaryDirectory(prefix="jaxlm-check-") as folder:
        given, made = pathlib.Path(folder, "given.npz"), pathlib.Path(folder, "made.npz")
        cases.save(given, asked)
        _run("replay", str(target), str(given), str(made))
        theirs = cases.load(made, len(asked))
    ours = cases.computed(asked, ready, stablehlo.asked(ready, lambda _: None).functions)
    return cases.differences(asked, theirs, ours)


def _require() -> None:
    programs.require()
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            "--format=savedmodel needs TensorFlow. Fix: pip install 'jaxlm[tf]', or --format=stablehlo, which needs "
            "jax alone."
        )


def _run(*words: str) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-IB", str(_PROCESS), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])[-1500:]
        raise UserError(
            f"TensorFlow ({words[0]}) ended with exit code {done.returncode}: {said}\nTested is TensorFlow 2.21. Fix: "
            "that version, or --format=stablehlo."
        )


def _older(data: bytes) -> bytes:
    """The module of a program, in the version that TensorFlow reads."""
    from jax.extend.mlir.dialects import stablehlo as dialect

    text = export.deserialize(bytearray(data)).mlir_module()
    try:
        return dialect.serialize_portable_artifact_str(called(str(text)), VERSION)
    except ValueError as error:
        raise UserError(
            f"--format=savedmodel: StableHLO {VERSION}, which TensorFlow reads, has no words for this model "
            f"({str(error)[:200]}). Fix: --format=stablehlo."
        ) from error


def called(text: str) -> str:
    """A module with calls in place of composites."""
    return _COMPOSITE.sub(r"func.call \2(\1) :", text)
