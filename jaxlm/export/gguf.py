"""GGUF, the files of llama.cpp. In: a Llama, Mistral, Qwen2, Qwen3 or BERT. Out: one file with weights and tokenizer.

Matrices are F32, F16, BF16, Q8_0 or Q4_0, vectors F32. With Q4_0 the table of tokens and the decoder are Q8_0, and rows
that are no whole blocks F16, as in llama.cpp's own files. One parameter of ours is in memory at a time. The check loads
the file in llama.cpp: ids of texts, greedy tokens with their probabilities, or vectors.
"""

import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.convert import families, table
from jaxlm.errors import UserError
from jaxlm.exchange import tokenizer_files
from jaxlm.exchange.stored import Stored
from jaxlm.export import gguf_described, gguf_tokenizer, llama_cpp
from jaxlm.export.difference import Difference
from jaxlm.export.formats import Source
from jaxlm.export.gguf_described import Described
from jaxlm.formats import gguf_file
from jaxlm.formats.gguf_model import permuted
from jaxlm.infer import frame, logits, text_reading

OPTIONS = {"dtype": ("F16", "F32", "BF16", "Q8_0", "Q4_0"), "pooling": ("mean", "cls")}
_FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "BF16": 32}  # llama.cpp's enum llama_ftype
_TOKENS = ("token_embd.weight", "output.weight")
_ALWAYS_F32 = ("position_embd.weight", "token_types.weight")
_NEXT = 12  # tokens that follow each text of a check
# What a check allows: share of other greedy tokens, of a probability, of a cosine. Measured, with room: docs/export.md.
_ALLOWED = {
    "F32": (0.02, 0.01, 2e-4),
    "F16": (0.02, 0.01, 2e-4),
    "BF16": (0.05, 0.1, 1e-3),
    "Q8_0": (0.1, 0.2, 2e-3),
    "Q4_0": (0.5, 0.9, 0.1),
}
TEXTS = (
    "The capital of France is",
    "In 2024, 1234567 people visited the museum; 89% of them liked it.",
    "It isn't what they'd said: \"we'll see\", she wrote.\n\nThen nothing   happened.",
    "Ein Café in Zürich, naïve Größe, 東京の天気 and emoji 🙂.",
    "def add(a, b):\n    return a + b\n",
)


def write(source: Source, partial: pathlib.Path, say: Callable[[str], None]) -> None:
    """Writes model-<dtype>.gguf."""
    try:
        import gguf
    except ImportError as error:
        raise UserError('--format=gguf needs the package gguf: pip install "jaxlm[gguf]".') from error
    found, dtype = source.stored, source.options.get("dtype", OPTIONS["dtype"][0])
    made = gguf_described.of(found, _pooling(source, say))
    tokenizer = tokenizer_files.open_files(found.tokenizer, found.where)
    tokenizer_files.check_size(tokenizer, found.config.vocab_size, found.where)
    vocabulary = gguf_tokenizer.metadata(
        tokenizer, found.config.vocab_size, frame.template(tokenizer), found.where
    )
    if made.architecture == "bert":
        vocabulary["tokenizer.ggml.token_type_count"] = found.config.types
    writer = gguf.GGUFWriter(partial / f"model-{dtype}.gguf", made.architecture)
    writer.add_name(pathlib.Path(found.where).name)
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    told = {f"{made.architecture}.{key}": value for key, value in made.metadata.items()}
    for key, value in (told | vocabulary).items():
        _add(writer, key, value)
    kinds = {name: _kind(name, shape, dtype) for name, shape in _shapes(found, made).items()}
    _write_tensors(gguf, writer, kinds, found, made)
    if coarse := [name for name, kind in kinds.items() if kind == "F16" and dtype.startswith("Q")]:
        say(f"{table.listed('tensors', coarse)} have rows that are no whole blocks of 32: they are F16")


def _pooling(source: Source, say: Callable[[str], None]) -> str | None:
    """Of an encoder, how its vectors are made."""
    if source.stored.config.kind != "encoder":
        if "pooling" in source.options:
            raise UserError(f"--pooling={source.options['pooling']}: {source.stored.where} is no encoder.")
        return None
    if not isinstance(source.stored.config, gguf_described.Bert):
        return None
    how = text_reading.chosen(source.loaded, source.options.get("pooling"))
    if how.prompt:
        say(f"every text must begin with {how.prompt!r}: llama.cpp does not put it there")
    return how.pooling


def _add(writer: Any, key: str, value: Any) -> None:
    """An entry of the metadata by its type."""
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds.get(type(value), writer.add_array)(key, value)


def _rows(found: Stored) -> Mapping[str, table.Row]:
    return {row.ours: row for row in families.rows(found.config, found.heads)}


def _shapes(found: Stored, made: Described) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, in the order of `_tensors`."""
    rows, sizes = _rows(found), families.sizes(found.config)
    shapes = {name: array.shape for name, array in made.extra.items()}
    for ours in found.shapes:
        for theirs, shape in table.their_shapes([rows[ours]], found.shapes, sizes).items():
            if (name := made.name(theirs)) is not None:
                shapes[name] = shape
    return shapes


def _tensors(found: Stored, made: Described) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor as the file has it, float32."""
    rows, sizes = _rows(found), families.sizes(found.config)
    yield from made.extra.items()
    for ours, array in found.hosts():
        theirs = table.to_theirs_of(rows[ours], array, sizes)
        for name, tensor in theirs.items():
            if (here := made.name(name)) is None:
                continue
            heads = made.turned.get(here.split(".")[-2], 0)
            yield here, permuted(tensor, heads) if heads else tensor


def _kind(name: str, shape: Sequence[int], dtype: str) -> str:
    if len(shape) < 2 or name in _ALWAYS_F32:
        return "F32"
    if dtype.startswith("Q") and shape[-1] % 32:
        return "F16"
    return "Q8_0" if dtype == "Q4_0" and name in _TOKENS else dtype


def _write_tensors(gguf: Any, writer: Any, kinds: Mapping[str, str], found: Stored, made: Described) -> None:
    """The header, and then one tensor at a time."""
    shapes = _shapes(found, made)
    for name, kind in kinds.items():
        number = gguf.GGMLQuantizationType[kind]
        block, size = gguf.GGML_QUANT_SIZES[number]
        count = math.prod(shapes[name])
        raw = (
            gguf.quant_shape_to_byte_shape(shapes[name], number)
            if kind not in ("F32", "F16")
            else shapes[name]
        )
        dtype = {"F32": np.float32, "F16": np.float16}.get(kind, np.uint8)
        writer.add_tensor_info(name, raw, np.dtype(dtype), count // block * size, number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in _tensors(found, made):
        kind = gguf.GGMLQuantizationType[kinds[name]]
        writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(tensor, np.float32), kind))
    writer.close()


def check(source: Source, target: pathlib.Path, say: Callable[[str], None]) -> Sequence[Difference]:
    """llama.cpp's ids of texts, and its greedy tokens or vectors, beside ours."""
    files = sorted(target.glob("*.gguf"))
    if len(files) != 1:
        raise UserError(f"{target} has {len(files)} .gguf files: one is checked.")
    dtype = _check_file(source, files[0])
    return (
        _vectors(source, files[0], dtype)
        if source.stored.config.kind == "encoder"
        else _greedy(source, files[0], dtype)
    )


def _check_file(source: Source, path: pathlib.Path) -> str:
    """Its dtype. UserError for a damaged file, or that of another model."""
    file = gguf_file.read(path)
    made = gguf_described.of(source.stored, source.options.get("pooling"))
    shapes = {name: entry.shape for name, entry in file.tensors.items()}
    if file.metadata.get("general.architecture") != made.architecture or shapes != _shapes(
        source.stored, made
    ):
        raise UserError(
            f"{path} is not of {source.stored.where}: architecture, names or shapes of tensors differ."
        )
    names = {number: name for name, number in _FILE_TYPES.items()}
    return names.get(file.metadata.get("general.file_type", -1), "Q4_0")


def _greedy(source: Source, file: pathlib.Path, dtype: str) -> list[Difference]:
    ready, allowed = source.loaded, _ALLOWED[dtype]
    longest = ready.row_length - _NEXT
    rows = [ids[:longest] for text in TEXTS if (ids := ready.tokenizer.encode(text))]
    said = llama_cpp.ask(file, TEXTS, rows, encoder=False, count=_NEXT)
    chosen = [[token for token, _ in steps] for steps in said["greedy"]]
    ours = logits.of_rows(ready, [[*row, *more[:-1]] for row, more in zip(rows, chosen, strict=True)])
    other, off, total = 0, 0.0, 0
    for row, steps, scores_TV in zip(rows, said["greedy"], ours, strict=True):
        for scores_V, (token, likeliest) in zip(scores_TV[len(row) - 1 :], steps, strict=True):
            p_V = np.exp(scores_V - scores_V.max(), dtype=np.float64)
            p_V /= p_V.sum()
            other, total = other + int(token != p_V.argmax()), total + 1
            off = max([off, *(abs(p - p_V[id]) for id, p in likeliest)])
    engine = said["engine"]
    return [
        _ids(source, said),
        Difference(
            f"{dtype}: greedy tokens, share of {total} that are others",
            other / max(total, 1),
            allowed[0],
            engine,
        ),
        Difference(f"{dtype}: probability of the likeliest next tokens", off, allowed[1], engine),
    ]


def _vectors(source: Source, file: pathlib.Path, dtype: str) -> list[Difference]:
    ready = source.loaded
    ours, how = text_reading.vectors(ready, TEXTS, source.options.get("pooling"))
    vocabulary = ready.tokenizer.vocabulary
    longest = min(how.length, ready.row_length) - vocabulary.overhead(1, 1)
    ids = ready.tokenizer.encode_batch([how.text(text) for text in TEXTS])
    rows = [vocabulary.framed(one[:longest]).tolist() for one in ids]
    said = llama_cpp.ask(file, TEXTS, rows, encoder=True)
    theirs = np.array(said["vectors"], np.float64)
    theirs /= np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), 1e-30)
    worst = float(np.max(1 - np.sum(theirs * ours, axis=1)))
    return [
        _ids(source, said),
        Difference(
            f"{dtype}: 1 - cosine of vectors, {how.pooling}", worst, _ALLOWED[dtype][2], said["engine"]
        ),
    ]


def _ids(source: Source, said: Mapping[str, Any]) -> Difference:
    """Its tokenizer beside ours."""
    ours = [source.loaded.tokenizer.encode(text) for text in TEXTS]
    wrong = sum(a != b for a, b in zip(ours, said["tokens"], strict=True)) / len(TEXTS)
    return Difference(f"ids of {len(TEXTS)} texts, share that differs", wrong, 0.0, said["engine"])
