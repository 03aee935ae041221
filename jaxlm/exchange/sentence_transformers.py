"""The folder of sentence-transformers around a model. In: a folder, or how texts are pooled. Out: its files.

modules.json lists the steps: the transformer in the folder itself, pooling (1_Pooling), a dense layer with tanh where
the model's pooler is used (2_Dense), and scaling to length 1 (2_Normalize or 3_Normalize).
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from jaxlm.errors import UserError
from jaxlm.formats.folder import Folder

Pooling = Literal["cls", "mean", "cls_mlp"]
# What the transformer's settings were called, the first that is there counts.
TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_SETTINGS = ("modules.json", *TRANSFORMER_FILES, "config_sentence_transformers.json")
_MODULES = "sentence_transformers.models."
MODES = (
    "cls_token",
    "mean_tokens",
    "max_tokens",
    "mean_sqrt_len_tokens",
    "weightedmean_tokens",
    "lasttoken",
)


def names(folder: Folder) -> list[str]:
    """The files of such a folder, besides the model's own; none for any other folder.

    UserError for a step with weights of its own, which would be lost.
    """
    if not folder.has("modules.json"):
        return []
    found = [name for name in _SETTINGS if folder.has(name)]
    for _, path in modules(folder.text("modules.json"), str(folder.path / "modules.json")):
        if not path:
            continue
        for name in ("model.safetensors", "pytorch_model.bin"):
            if folder.has(f"{path}/{name}"):
                raise UserError(
                    f"{folder.path}/{path} has weights of its own, which a model folder has no place for. Remove "
                    "modules.json to convert the transformer alone."
                )
        if folder.has(f"{path}/config.json"):
            found.append(f"{path}/config.json")
    return found


def modules(text: str, where: str) -> list[tuple[str, str]]:
    """The steps that a modules.json lists: kind and folder, '' being that of the model."""
    try:
        return [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in json.loads(text)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{where} is not a list of modules ({type(error).__name__}).") from error


def files(pooling: Pooling, width: int, length: int) -> dict[str, str]:
    """The texts of all files for a model whose features have that width, and rows at most that length."""
    mode = "mean_tokens" if pooling == "mean" else "cls_token"
    dense = pooling == "cls_mlp"
    steps = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Dense", "Dense")] * dense
    steps.append((f"{2 + dense}_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": _MODULES + kind}
        for i, (path, kind) in enumerate(steps)
    ]
    pool: dict[str, Any] = {"word_embedding_dimension": width, "include_prompt": True}
    pool |= {f"pooling_mode_{name}": name == mode for name in MODES}
    made: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": pool,
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "similarity_fn_name": "cosine"},
    }
    if dense:
        made["2_Dense/config.json"] = {
            "in_features": width,
            "out_features": width,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        }
    return {name: json.dumps(value, indent=2) for name, value in made.items()}


def dense_names(tensors: Mapping[str, Any]) -> dict[str, str]:
    """Which of the model's tensors the dense step has: {its name: theirs}. UserError when there is no pooler."""
    found = {
        f"linear.{kind}": [n for n in tensors if n.endswith(f"pooler.dense.{kind}")]
        for kind in ("weight", "bias")
    }
    if any(len(each) != 1 for each in found.values()):
        raise UserError("pooling cls_mlp wants a model with a pooler, and this one has none.")
    return {name: each[0] for name, each in found.items()}
