"""Llamas in GGUF. In: a file that `gguf_file` has read. Out: a config.json and tensors as transformers has them.

Queries and keys of a GGUF of architecture llama have their rows in another order (pairs that RoPE turns stand side by
side); here they are put back. Guaranteed: what no config.json of ours can say is refused by name. The tables hold for
the other direction too (`jaxlm/export/gguf_described.py`).
"""

import re
from typing import Any

import numpy as np

from jaxlm.errors import UserError
from jaxlm.formats.gguf_file import Gguf
from jaxlm.formats.source import Entry, Index, Tensors

# general.architecture, which is transformers' model_type, -> transformers' class
ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# A tensor, without its layer -> the same of transformers
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# config.json -> the metadata, behind the name of the architecture
FIELDS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
}


def config(file: Gguf) -> dict[str, Any]:
    """The config.json of the model in the file."""
    kind = _architecture(file)
    hf: dict[str, Any] = {
        theirs: _setting(file, ours, float if theirs == "rms_norm_eps" else int)
        for theirs, ours in FIELDS.items()
    }
    heads = hf["num_attention_heads"]
    hf |= {
        "model_type": kind,
        "architectures": [ARCHITECTURES[kind]],
        "vocab_size": file.tensors["token_embd.weight"].shape[0]
        if "token_embd.weight" in file.tensors
        else 0,
        "num_key_value_heads": _setting(file, "attention.head_count_kv", int, heads),
        "head_dim": _setting(file, "attention.key_length", int, hf["hidden_size"] // max(heads, 1)),
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in file.tensors,
        # A float32 of the file; as Python prints it, it would be 9.999999747378752e-06.
        "rms_norm_eps": float(np.format_float_positional(np.float32(hf["rms_norm_eps"]), unique=True)),
        "rope_theta": _setting(file, "rope.freq_base", float, 10000.0),
        "attention_bias": kind == "llama" and "blk.0.attn_q.bias" in file.tensors,
    }
    scaling = _setting(file, "rope.scaling.type", str, "none")
    if scaling == "linear":
        hf["rope_scaling"] = {"rope_type": "linear", "factor": _setting(file, "rope.scaling.factor", float)}
    elif scaling != "none":
        raise UserError(
            f"{file.path}: rope.scaling.type={scaling!r}: read are none and linear. Use the original weights."
        )
    for key in ("bos_token_id", "eos_token_id"):
        hf[key] = file.metadata.get(f"tokenizer.ggml.{key}")
    return hf


def source(file: Gguf) -> Tensors:
    """The tensors under transformers' names, in transformers' order."""
    kind, found = _architecture(file), {}
    heads = _setting(file, "attention.head_count", int)
    groups = {"attn_q": heads, "attn_k": _setting(file, "attention.head_count_kv", int, heads)}
    for name, entry in file.tensors.items():
        if name == "rope_freqs.weight":
            raise UserError(
                f"{file.path}: rope_freqs.weight: the RoPE of this model is scaled (Llama 3.1), and the file has "
                "the result "
                "without the parameters. Use the original weights."
            )
        match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
        if match is None or match[2] not in NAMES:
            raise UserError(f"{file.path}: {name} is not a weight of a Llama. Known are {', '.join(NAMES)}.")
        layer = "" if match[1] is None else f"model.layers.{match[1]}."
        turned = kind == "llama" and match[2] in groups
        found[f"{layer}{NAMES[match[2]]}.{match[3]}"] = (
            _unpermuted(entry, groups[match[2]]) if turned else entry
        )
    return Tensors(found, file.path)


def permuted(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key as a file of architecture llama has them, from transformers' order."""
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))


def _unpermuted(entry: Entry, heads: int) -> Entry:
    def read(index: Index) -> np.ndarray:
        array = entry.read(())
        pairs = array.reshape(heads, array.shape[0] // heads // 2, 2, *array.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(array.shape)[index])

    if type(heads) is not int or heads < 1 or entry.shape[0] % (2 * heads):
        raise UserError(
            f"A query or key of {entry.shape[0]} rows does not divide into {heads} heads. The file is damaged."
        )
    return Entry(entry.shape, entry.dtype, read, entry.file)


def _architecture(file: Gguf) -> str:
    kind = file.metadata.get("general.architecture")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise UserError(f"{file.path}: general.architecture={kind!r}: read are {', '.join(ARCHITECTURES)}.")
    return kind


def _setting(file: Gguf, name: str, kind: type, default: Any = None) -> Any:
    key = f"{_architecture(file)}.{name}"
    value = file.metadata.get(key, default)
    if value is None:
        raise UserError(f"{file.path}: the metadata has no {key}, which a Llama needs.")
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise UserError(f"{file.path}: {key}={str(value)[:80]}: must be of type {kind.__name__}.")
    return kind(value)
