"""Times embeddings of texts of mixed length beside sentence-transformers and onnxruntime, on one thread of a CPU.

    python tools/benchmark_embed.py hf:path/to/minilm --input=texts.txt --also=small --onnx=DIR/model.onnx

All get the same texts as strings, in batches of 32 by length, and give vectors of length 1: tokenizing counts.
--also: model folders, as `jaxlm compress` makes them of the same model; --onnx: what `jaxlm export --format=onnx` made.
They run in turns in one process, the median of several rounds, in texts per CPU second, which count less of what a
busy machine does than time; still, only ratios within a run mean something. Run it with `taskset -c 0`.
"""

import argparse
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

from jaxlm.infer import loaded, text_reading
from jaxlm.partition.mesh import Mesh

ROWS = 32  # as jaxlm and sentence-transformers have it
Way = Callable[[Sequence[str]], np.ndarray]  # texts -> vectors [texts, D]


def ours(where: str) -> Way:
    """`jaxlm embed`."""
    ready = loaded.load(where, mesh=Mesh(data=1))
    return lambda texts: text_reading.vectors(ready, texts)[0]


def sentence_transformers(folder: str) -> Way:
    """Its `encode`, torch in float32."""
    import sentence_transformers
    import torch

    torch.set_num_threads(1)
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    return lambda texts: model.encode(list(texts), batch_size=ROWS, normalize_embeddings=True)


def onnxruntime(path: pathlib.Path) -> Way:
    """Our export in onnxruntime: batches by length, padded to their longest, tokens by the folder's tokenizer."""
    import onnxruntime
    import tokenizers

    how = onnxruntime.SessionOptions()
    how.intra_op_num_threads = how.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), how, providers=["CPUExecutionProvider"])
    asked = [one.name for one in session.get_inputs()]
    file = next(p for p in (path.parent, path.parent.parent) if (p / "tokenizer.json").exists())
    tokenizer = tokenizers.Tokenizer.from_file(str(file / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)

    def encode(texts: Sequence[str]) -> np.ndarray:
        found = tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda k: len(found[k].ids))
        parts = [order[at : at + ROWS] for at in range(0, len(order), ROWS)]
        vectors: dict[int, np.ndarray] = {}
        for part in parts:
            fields = batch([found[k].ids for k in part])
            (output,) = session.run(["sentence_embedding"], {name: fields[name] for name in asked})
            vectors |= dict(zip(part, output, strict=True))
        return np.stack([vectors[k] for k in range(len(texts))])

    return encode


def batch(rows: list[list[int]]) -> dict[str, np.ndarray]:
    """Padded to the longest."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="an encoder: hf:DIR")
    parser.add_argument("--input", type=pathlib.Path, required=True, help="texts, one a line")
    parser.add_argument("--also", default="", help="model folders made of it, comma between")
    parser.add_argument("--onnx", type=pathlib.Path, help="its export")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts = list(filter(None, options.input.read_text().splitlines()))
    folders = list(filter(None, options.also.split(",")))
    ways: dict[str, Any] = {"jaxlm": ours(options.model)}
    ways |= {f"jaxlm, {pathlib.Path(one).name}": ours(one) for one in folders}
    ways["sentence-transformers"] = sentence_transformers(options.model.removeprefix("hf:"))
    if options.onnx:
        ways["onnxruntime"] = onnxruntime(options.onnx)
    first = {name: way(texts) for name, way in ways.items()}  # and compiles
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            begin = time.process_time()
            way(texts)
            took[name].append(time.process_time() - begin)
    peer = statistics.median(took["sentence-transformers"])
    print("| way | texts per CPU second | of sentence-transformers | lowest cosine with its vectors |")
    print("|---|---|---|---|")
    for name, each in took.items():
        middle = statistics.median(each)
        near = float((first[name] * first["sentence-transformers"]).sum(-1).min())
        print(f"| {name} | {len(texts) / middle:.1f} | {peer / middle:.2f} x | {near:.6f} |", flush=True)


if __name__ == "__main__":
    main()
