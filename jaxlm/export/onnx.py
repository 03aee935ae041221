"""ONNX in the layout of transformers.js. In: an encoder with its head, or a decoder. Out: onnx/model.onnx, its files.

The model becomes a Hugging Face folder, which PyTorch's exporter turns into a file in a process of its own
(`torch_onnx.py`); the batch and the lengths of rows are free. Guaranteed: the file's outputs in onnxruntime are ours,
on padded rows, of both token types, and of a decoder when it goes on from its keys and values; else there is no file.
"""

import functools
import importlib.util
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.exchange import exporting
from jaxlm.exchange.sentence_transformers import Pooling
from jaxlm.export.difference import Difference
from jaxlm.export.formats import Source
from jaxlm.infer import logits, text_reading
from jaxlm.infer.loaded import Loaded
from jaxlm.objectives import embeddings

OPTIONS = {"pooling": ("mean", "cls")}
FILE = "onnx/model.onnx"
_NEEDS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
_PROGRAM = pathlib.Path(__file__).with_name("torch_onnx.py")
_LARGEST = 2**31 - 2**26  # bytes of weights that fit one protobuf file
_SECONDS = 3600
_TOLERANCE = 2e-4  # of the largest output, or of 1 where that is smaller
# A head -> the task of transformers
_TASKS = {
    "classes": "text-classification",
    "tags": "token-classification",
    "span": "question-answering",
    "tokens": "fill-mask",
}
_FEATURES, _GENERATION = "feature-extraction", "text-generation"


def write(source: Source, partial: pathlib.Path, say: Callable[[str], None]) -> None:
    """Fills the folder; UserError where the file says something else than we do."""
    task, pooling = _task(source)
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise UserError(f'--format=onnx needs {", ".join(missing)}: pip install "jaxlm[onnx]".')
    found = source.stored
    exporting.write_folder(found, partial, "float32", pooling=pooling)
    (partial / "onnx").mkdir()
    request = {"folder": str(partial), "task": task, "pooling": pooling, "output": str(partial / FILE)}
    _run_program(request, found.where)
    for path in partial.glob("*.safetensors*"):
        path.unlink()
    for one in _differences(source, partial, task, pooling):
        say(f"{one.what}: largest difference {one.largest:.3g}, allowed {one.allowed:.3g}")
        if not one.fine:
            raise UserError(
                f"{found.where}: PyTorch's exporter made a file with other outputs ({one.what}: {one.largest:.3g}, "
                f"allowed is {one.allowed:.3g}). Nothing was written. Please report it, with the versions of torch and "
                "onnxscript."
            )


def check(source: Source, target: pathlib.Path, say: Callable[[str], None]) -> Sequence[Difference]:
    """onnxruntime's outputs beside ours."""
    return _differences(source, target, *_task(source))


def _task(source: Source) -> tuple[str, Pooling | None]:
    """(transformers' name of what the model does, how vectors are pooled). UserError for what is not done."""
    found, pooling = source.stored, source.options.get("pooling")
    kind, heads, where = found.config.kind, found.heads, found.where
    if sum(math.prod(leaf.shape) for leaf in found.shapes.values()) * 4 > _LARGEST:
        raise UserError(f"{where}: more than 2 GB of weights, which one ONNX file cannot hold.")
    if kind == "decoder" and not heads:
        if pooling:
            raise UserError(f"--pooling={pooling}: {where} is no encoder.")
        return _GENERATION, None
    if kind != "encoder" or "choices" in heads:
        what = (
            "the head choices"
            if kind == "encoder"
            else {"decoder": "a decoder with a head", "pair": "a pair of two models"}.get(
                kind, "an encoder-decoder"
            )
        )
        raise UserError(
            f"{where}: {what} does not become ONNX here; encoders (features, masked tokens, classes, tags, answers) "
            "and decoders do."
        )
    name = next((name for name in _TASKS if name in heads), None)
    vectors = pooling or found.beside("modules.json") is not None
    vectors = vectors or getattr(getattr(found.run, "objective", None), "vectors", None) is not None
    if name in (None, "tokens") and vectors:
        how = text_reading.chosen(source.loaded, pooling).pooling
        if how == "cls_mlp":
            raise UserError(f"{where}: pooling cls_mlp does not become ONNX here: --pooling=mean or cls.")
        return _FEATURES, how
    if pooling:
        raise UserError(f"--pooling={pooling}: {where} has the head {name}, and answers with that.")
    return _TASKS.get(name or "", _FEATURES), None


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


def _differences(
    source: Source, target: pathlib.Path, task: str, pooling: Pooling | None
) -> list[Difference]:
    """Of all outputs, on rows of several lengths side by side."""
    session, engine = _session(target / FILE)
    run = functools.partial(_run, session, target)
    ready = source.loaded
    if task == _GENERATION:
        return _of_decoder(ready, session, run, engine)
    batch = _batch(ready)
    names = [one.name for one in session.get_inputs()]
    mask_BT = np.asarray(batch.segments_BT)
    given = {"input_ids": batch.tokens_BT, "attention_mask": mask_BT, "token_type_ids": batch.types_BT}
    said = run({name: np.asarray(given[name], np.int64) for name in names if name in given})
    with jax.set_mesh(ready.mesh):
        ours = jax.device_get(
            _ours(ready.module, batch, task=task, pooling=pooling, size=ready.model.config.vocab_size)
        )
    if ours.keys() - said.keys():
        raise UserError(f"{target / FILE} is of another model: it has the outputs {', '.join(said)}.")
    return [
        _difference(f"{name}, padded rows", said[name], one, mask_BT, target, engine)
        for name, one in ours.items()
    ]


def _session(path: pathlib.Path) -> tuple[Any, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError('--format=onnx needs onnxruntime: pip install "jaxlm[onnx]".') from error
    if not path.is_file():
        raise UserError(f"{path} is not there. Fix: export again.")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # classes of its own for every kind of damage
        raise UserError(f"{path} is no ONNX file that onnxruntime reads: {str(error)[:300]}") from error
    return session, f"onnxruntime {onnxruntime.__version__}"


def _run(session: Any, target: pathlib.Path, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name."""
    try:
        found = session.run(None, dict(given))
    except Exception as error:
        raise UserError(f"{target / FILE} is of another model: {str(error)[:300]}") from error
    return dict(zip([one.name for one in session.get_outputs()], found, strict=True))


def _rows(ready: Loaded) -> list[np.ndarray]:
    """Ids at random, of three lengths; special ones too, but for padding."""
    rng, vocabulary = np.random.default_rng(0), ready.tokenizer.vocabulary
    longest = min(ready.row_length, 24)
    ids = np.delete(np.arange(vocabulary.size), vocabulary.pad)
    return [rng.choice(ids, length) for length in (longest - 3, max(longest // 2, 1), 3)]


def _batch(ready: Loaded) -> Batch:
    """Padded rows, whose second half is a second text."""
    rows, pad = _rows(ready), ready.tokenizer.vocabulary.pad
    width = max(map(len, rows))
    tokens_BT = np.stack([np.pad(row, (0, width - len(row)), constant_values=pad) for row in rows]).astype(
        np.int32
    )
    segments_BT = np.stack([np.arange(width) < len(row) for row in rows]).astype(np.int32)
    lengths_B1 = segments_BT.sum(axis=1, keepdims=True)
    types_BT = (np.arange(width) >= lengths_B1 // 2) * segments_BT
    types_BT = np.minimum(types_BT, max(getattr(ready.model.config, "types", 1) - 1, 0)).astype(np.int32)
    rest = [ready.height(len(rows)) - len(rows)]
    more = lambda a_BT: np.pad(a_BT, ((0, rest[0]), (0, 0)))
    return Batch(
        tokens_BT=more(tokens_BT),
        segments_BT=more(segments_BT),
        positions_BT=more(np.arange(width, dtype=np.int32) * segments_BT),
        types_BT=more(types_BT),
    )


@functools.partial(jax.jit, static_argnames=("task", "pooling", "size"))
def _ours(model: Any, batch: Batch, *, task: str, pooling: Pooling | None, size: int) -> dict[str, jax.Array]:
    """By the names that transformers has for them; `size`: entries of the vocabulary that are no padding."""
    x_BTD = model.encode(batch, None).x_BTD
    if task == "fill-mask":
        return {"logits": model.predict_tokens(x_BTD)[..., :size]}
    if task == "text-classification":
        return {"logits": model.classify(x_BTD[:, :1])[:, 0]}
    if task == "token-classification":
        return {"logits": model.heads["tags"](x_BTD)}
    if task == "question-answering":
        start_BT, end_BT = jnp.moveaxis(model.heads["span"](x_BTD), -1, 0)
        return {"start_logits": start_BT, "end_logits": end_BT}
    found = {"last_hidden_state": x_BTD}
    if pooling:
        first_BC = jnp.zeros((len(batch.tokens_BT), 1), jnp.int32)
        _, e_BCD = embeddings.of_items(model, batch, None, first_BC, pooling)
        found["sentence_embedding"] = embeddings.unit(e_BCD[:, 0])
    return found


def _of_decoder(ready: Loaded, session: Any, run: Any, engine: str) -> list[Difference]:
    """Rows padded in front, and then one more token after the keys and values of the others."""
    rows, pad = _rows(ready), ready.tokenizer.vocabulary.pad
    width = max(map(len, rows)) - 1
    front = [width - len(row) + 1 for row in rows]
    ids_BT = np.stack(
        [np.pad(row[:-1], (n, 0), constant_values=pad) for row, n in zip(rows, front, strict=True)]
    )
    mask_BT = np.stack([np.arange(width) >= n for n in front]).astype(np.int64)
    shapes = {one.name: one.shape for one in session.get_inputs() if one.name.startswith("past_key_values.")}
    past = {name: np.zeros((len(rows), s[1], 0, s[3]), np.float32) for name, s in shapes.items()}
    positions_BT = np.maximum(np.cumsum(mask_BT, axis=1) - 1, 0)
    given = {"input_ids": ids_BT.astype(np.int64), "attention_mask": mask_BT, "position_ids": positions_BT}
    first = run(given | past)
    now = {name.replace("present", "past_key_values"): a for name, a in first.items() if name != "logits"}
    last_B1 = np.array([[row[-1]] for row in rows], np.int64)
    mask_BT = np.pad(mask_BT, ((0, 0), (0, 1)), constant_values=1)
    lengths_B1 = np.array([[len(row) - 1] for row in rows], np.int64)
    then = run({"input_ids": last_B1, "attention_mask": mask_BT, "position_ids": lengths_B1} | now)
    ours = logits.of_rows(ready, [row.tolist() for row in rows])
    target = pathlib.Path(".")
    both = [
        np.concatenate([a[n:], b]) for a, b, n in zip(first["logits"], then["logits"], front, strict=True)
    ]
    prompt = [_difference("", a[:-1], b[:-1], None, target, engine) for a, b in zip(both, ours, strict=True)]
    after = [_difference("", a[-1:], b[-1:], None, target, engine) for a, b in zip(both, ours, strict=True)]
    named = ("logits of prompts, padded rows", prompt), ("logits after keys and values", after)
    return [
        Difference(what, max(o.largest for o in found), min(o.allowed for o in found), engine)
        for what, found in named
    ]


def _difference(
    what: str,
    said: np.ndarray,
    ours: np.ndarray,
    mask_BT: np.ndarray | None,
    target: pathlib.Path,
    engine: str,
) -> Difference:
    """At real tokens."""
    if said.shape != ours.shape:
        raise UserError(
            f"{target / FILE} is of another model: {what} has the shape {said.shape}, ours {ours.shape}."
        )
    ours = np.asarray(ours, np.float64)
    off = np.abs(said - ours)
    if mask_BT is not None:
        rows = mask_BT.any(axis=1)
        tokens = ours.ndim > 1 and ours.shape[:2] == mask_BT.shape
        off, ours = (a[mask_BT > 0] if tokens else a[rows] for a in (off, ours))
    return Difference(what, float(off.max()), _TOLERANCE * max(1.0, float(np.abs(ours).max())), engine)
