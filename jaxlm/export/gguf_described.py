"""What llama.cpp is told of a model. In: weights with their config. Out: architecture, metadata, names of tensors.

Llamas have the tables of `jaxlm/formats/gguf_model.py`, which reads such files; BERT has one here. What llama.cpp
computes otherwise than we do is refused by name. Keys: ggml's docs/gguf.md, llama.cpp's src/llama-arch.cpp.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.exchange.stored import Stored
from jaxlm.formats import gguf_model
from jaxlm.models import rope
from jaxlm.models.bert import Bert
from jaxlm.models.llama import Llama

_POOLINGS = {"mean": 1, "cls": 2}  # llama.cpp's enum llama_pooling_type
_BERT = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_BERT_FIELDS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "layer_norm_eps": "attention.layer_norm_epsilon",
}
_OTHERS = "--format=onnx, stablehlo or safetensors may hold it."


@dataclasses.dataclass(frozen=True)
class Described:
    """A model in the words of a GGUF."""

    architecture: str
    metadata: Mapping[str, Any]  # without the architecture's name in front
    name: Callable[[str], str | None]  # transformers' name of a tensor -> the file's; None: it stays behind
    turned: Mapping[str, int]  # tensors whose rows are permuted (`gguf_model.permuted`), with their heads
    extra: Mapping[str, np.ndarray]  # tensors that are no weights, float32


def of(found: Stored, pooling: str | None) -> Described:
    """UserError for a model that llama.cpp cannot run. `pooling` is that of an encoder."""
    if type(found.config) is Bert:
        return _bert(found, pooling or "mean")
    if type(found.config) is not Llama:
        raise UserError(
            f"{found.where}: a {type(found.config).__name__} does not become a GGUF here; Llama, Mistral, Qwen2, Qwen3 "
            f"and BERT do. {_OTHERS}"
        )
    return _llama(found)


def _llama(found: Stored) -> Described:
    config, where = found.config, found.where
    if found.heads:
        raise UserError(f"{where}: heads ({', '.join(found.heads)}) have no place in a GGUF. {_OTHERS}")
    if config.activation != "silu":
        raise UserError(f"{where}: activation={config.activation!r}: llama.cpp's Llamas have silu. {_OTHERS}")
    hf = families.to_hf_config(config, found.heads)
    kind = "llama" if hf["model_type"] == "mistral" else hf["model_type"]
    if kind == "qwen3" and config.biases != "none":
        raise UserError(f"{where}: llama.cpp's qwen3 has no biases, this model has. {_OTHERS}")
    told: dict[str, Any] = {theirs: hf[ours] for ours, theirs in gguf_model.FIELDS.items()}
    told |= {
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": config.rope.base,
        "vocab_size": config.vocab_size,
    }
    # Windows are not looked at there; up to the shortest one they change nothing.
    told["context_length"] = min([config.max_positions, *(w for w in config.windows if w)])
    scaling, extra = _rope(config, kind, where)
    names = {theirs: ours for ours, theirs in gguf_model.NAMES.items()}
    turned = {"attn_q": config.heads, "attn_k": config.kv_heads} if kind == "llama" else {}
    return Described(kind, told | scaling, lambda name: _renamed(name, names, "model.layers."), turned, extra)


def _rope(config: Llama, kind: str, where: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    scaling = config.rope.scaling
    match scaling:
        case rope.Unscaled():
            return {}, {}
        case rope.Linear():
            return {"rope.scaling.type": "linear", "rope.scaling.factor": scaling.factor}, {}
        case rope.Llama3() if kind == "llama":
            half = np.arange(0, config.head_dim, 2, dtype=np.float64)
            inverse = config.rope.base ** -(half / config.head_dim)
            divided = inverse / scaling.apply(inverse, config.rope.base)[0]
            return {}, {"rope_freqs.weight": divided.astype(np.float32)}
        case rope.Yarn():
            # llama.cpp multiplies the published factor in by itself.
            published = 0.1 * math.log(scaling.factor) + 1
            return {
                "rope.scaling.type": "yarn",
                "rope.scaling.factor": scaling.factor,
                "rope.scaling.original_context_length": scaling.original,
                "rope.scaling.yarn_beta_fast": scaling.beta_fast,
                "rope.scaling.yarn_beta_slow": scaling.beta_slow,
                "rope.scaling.attn_factor": scaling.attention_factor / published,
            }, {}
    raise UserError(
        f"{where}: {type(scaling).__name__} scaling of RoPE: llama.cpp's {kind} has none. {_OTHERS}"
    )


def _bert(found: Stored, pooling: str) -> Described:
    config, where = found.config, found.where
    if used := sorted(set(found.heads) - {"tokens", "pooler", "nsp", "sop"}):
        raise UserError(
            f"{where}: a GGUF of BERT makes vectors of texts and has no place for the head {used[0]!r}. {_OTHERS}"
        )
    if config.activation != "gelu":
        raise UserError(f"{where}: activation={config.activation!r}: llama.cpp's BERT has gelu. {_OTHERS}")
    if pooling not in _POOLINGS:
        raise UserError(
            f"{where}: pooling {pooling!r} takes the pooler, which llama.cpp leaves out; it has "
            f"{' and '.join(_POOLINGS)}: --pooling=mean. {_OTHERS}"
        )
    hf = families.to_hf_config(config, found.heads)
    told: dict[str, Any] = {theirs: hf[ours] for ours, theirs in _BERT_FIELDS.items()}
    told |= {"attention.causal": False, "pooling_type": _POOLINGS[pooling], "vocab_size": config.vocab_size}
    return Described(
        "bert", told, lambda name: _renamed(name.removeprefix("bert."), _BERT, "encoder.layer."), {}, {}
    )


def _renamed(name: str, names: Mapping[str, str], layers: str) -> str | None:
    """'model.layers.3.mlp.up_proj.weight' -> 'blk.3.ffn_up.weight'."""
    match = re.fullmatch(rf"(?:{re.escape(layers)}(\d+)\.)?(.+)\.(weight|bias)", name)
    if match is None or match[2] not in names:
        return None
    block = "" if match[1] is None else f"blk.{match[1]}."
    return f"{block}{names[match[2]]}.{match[3]}"
