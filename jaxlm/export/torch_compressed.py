"""The process that has transformers. In: a folder, a task, arrays. Out: the arrays that it says, and its versions.

Run by its path, so that nothing of jaxlm, and no jax, is imported beside PyTorch.
"""

import json
import pathlib
import sys

import compressed_tensors
import numpy as np
import torch
import transformers


def main(folder, task, given, said):
    """Writes every array of the outputs by its name."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text(encoding="utf-8"))
    kind = "AutoModel" if task == "feature-extraction" else config["architectures"][0]
    model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()
    inputs = {name: torch.from_numpy(array) for name, array in np.load(given).items()}
    with torch.inference_mode():
        outputs = model(**inputs, use_cache=False) if "LM" in kind else model(**inputs)
    arrays = {name: value.numpy() for name, value in outputs.items() if isinstance(value, torch.Tensor)}
    if "prediction_logits" in arrays:  # of a model with several heads
        arrays["logits"] = arrays.pop("prediction_logits")
    engine = f"transformers {transformers.__version__}, compressed-tensors {compressed_tensors.__version__}"
    np.savez(said, allow_pickle=False, engine=engine, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
