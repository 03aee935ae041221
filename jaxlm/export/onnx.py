"""ONNX in the layout of transformers.js. In: a model and its heads. Out: onnx/*.onnx, config.json and the tokenizer.

The model becomes a Hugging Face folder, which PyTorch's exporter turns into a file in a process of its own
(`torch_onnx.py`); the batch and the lengths of rows are free. Guaranteed: the file's outputs in onnxruntime are ours,
on padded rows, of both token types, and of a decoder when it goes on from its keys and values; else there is no file.
"""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxlm.errors import UserError
from jaxlm.exchange import exporting
from jaxlm.exchange.sentence_transformers import Pooling
from jaxlm.export.difference import Difference
from jaxlm.export.formats import Source
from jaxlm.export.onnx_compared import GENERATION, TRANSLATION, differences
from jaxlm.export.padded import FEATURES, TASKS
from jaxlm.infer import text_reading

OPTIONS = {"pooling": ("mean", "cls")}
_NEEDS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
_PROGRAM = pathlib.Path(__file__).with_name("torch_onnx.py")
_LARGEST = 2**31 - 2**26  # bytes of weights that fit one protobuf file
_SECONDS = 3600


def write(source: Source, partial: pathlib.Path, say: Callable[[str], None]) -> None:
    """Fills the folder; UserError where the file says something else than we do."""
    task, pooling = _task(source)
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise UserError(f'--format=onnx needs {", ".join(missing)}: pip install "jaxlm[onnx]".')
    found = source.stored
    exporting.write_folder(found, partial, "float32", pooling=pooling)
    (partial / "onnx").mkdir()
    request = {"folder": str(partial), "task": task, "pooling": pooling, "output": str(partial / "onnx")}
    _run_program(request, found.where)
    for path in partial.glob("*.safetensors*"):
        path.unlink()
    for one in differences(source.loaded, partial, task, pooling):
        say(f"{one.what}: largest difference {one.largest:.3g}, allowed {one.allowed:.3g}")
        if not one.fine:
            raise UserError(
                f"{found.where}: PyTorch's exporter made a file with other outputs ({one.what}: {one.largest:.3g}, "
                f"allowed is {one.allowed:.3g}). Nothing was written. Please report it, with the versions of torch and "
                "onnxscript."
            )


def check(source: Source, target: pathlib.Path, say: Callable[[str], None]) -> Sequence[Difference]:
    """onnxruntime's outputs beside ours."""
    return differences(source.loaded, target, *_task(source))


def _task(source: Source) -> tuple[str, Pooling | None]:
    """(transformers' name of what the model does, how vectors are pooled). UserError for what is not done."""
    found, pooling = source.stored, source.options.get("pooling")
    kind, heads, where = found.config.kind, found.heads, found.where
    if sum(math.prod(leaf.shape) for leaf in found.shapes.values()) * 4 > _LARGEST:
        raise UserError(f"{where}: more than 2 GB of weights, which one ONNX file cannot hold.")
    if kind in ("decoder", "encoder_decoder") and not heads:
        if pooling:
            raise UserError(f"--pooling={pooling}: {where} is no encoder.")
        return GENERATION if kind == "decoder" else TRANSLATION, None
    if kind != "encoder" or "choices" in heads:
        what = {"encoder": "the head choices", "pair": "a pair of two models"}.get(
            kind, f"a head on a {kind}"
        )
        raise UserError(
            f"{where}: {what} does not become ONNX here; encoders (features, masked tokens, classes, tags, answers), "
            "decoders and encoder-decoders do."
        )
    name = next((name for name in TASKS if name in heads), None)
    vectors = pooling or found.beside("modules.json") is not None
    vectors = vectors or getattr(getattr(found.run, "objective", None), "vectors", None) is not None
    if name in (None, "tokens") and vectors:
        how = text_reading.chosen(source.loaded, pooling).pooling
        if how == "cls_mlp":
            raise UserError(f"{where}: pooling cls_mlp does not become ONNX here: --pooling=mean or cls.")
        return FEATURES, how
    if pooling:
        raise UserError(f"--pooling={pooling}: {where} has the head {name}, and answers with that.")
    return TASKS.get(name or "", FEATURES), None


def _run_program(request: Mapping[str, Any], where: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "request.json"
        path.write_text(json.dumps(request), encoding="utf-8")
        # -P: else `import onnx` there would find this file.
        command = [sys.executable, "-P", str(_PROGRAM), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode:
        raise UserError(
            f"{where}: PyTorch's exporter fails (exit code {done.returncode}):\n{done.stderr.strip()[-2000:]}"
        )
