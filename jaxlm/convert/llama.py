"""Llama between our parameters and transformers' Llama, Mistral, Qwen2 and Qwen3 for causal LM.

In: a config.json or a `Llama`. Out: the other, and the table of weights. Guaranteed: the four differ in config.json
only as their configs differ here (a window, biases, QK norm); a config that none of the four can say is refused.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Set
from typing import Any

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models import rope
from jaxlm.models.heads import ClassifyText, Tag
from jaxlm.models.llama import Llama

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
TIED: Mapping[str, str] = {"lm_head.weight": "model.embed_tokens.weight"}
IGNORED = (r".*\.rotary_emb\.inv_freq",)

_LAYER = "model.layers.{}."
_COMMON = (
    Row("tokens/table", "model.embed_tokens.weight", "V D -> V D", padded="V"),
    Row("blocks/norm_attention/scale", _LAYER + "input_layernorm.weight"),
    Row("blocks/attention/wq", _LAYER + "self_attn.q_proj.weight", "(N H) D -> D N H"),
    Row("blocks/attention/wk", _LAYER + "self_attn.k_proj.weight", "(K H) D -> D K H"),
    Row("blocks/attention/wv", _LAYER + "self_attn.v_proj.weight", "(K H) D -> D K H"),
    Row("blocks/attention/wo", _LAYER + "self_attn.o_proj.weight", "D (N H) -> N H D"),
    Row("blocks/norm_mlp/scale", _LAYER + "post_attention_layernorm.weight"),
    Row("blocks/mlp/w_gate", _LAYER + "mlp.gate_proj.weight", "F D -> D F"),
    Row("blocks/mlp/w_in", _LAYER + "mlp.up_proj.weight", "F D -> D F"),
    Row("blocks/mlp/w_out", _LAYER + "mlp.down_proj.weight", "D F -> F D"),
    Row("norm/scale", "model.norm.weight"),
)
_QKV_BIASES = (
    Row("blocks/attention/bq", _LAYER + "self_attn.q_proj.bias", "(N H) -> N H"),
    Row("blocks/attention/bk", _LAYER + "self_attn.k_proj.bias", "(K H) -> K H"),
    Row("blocks/attention/bv", _LAYER + "self_attn.v_proj.bias", "(K H) -> K H"),
)
_OUT_BIAS = (Row("blocks/attention/bo", _LAYER + "self_attn.o_proj.bias"),)
_QK_NORMS = (
    Row("blocks/attention/norm_q/scale", _LAYER + "self_attn.q_norm.weight"),
    Row("blocks/attention/norm_k/scale", _LAYER + "self_attn.k_norm.weight"),
)
_DECODER = (Row("decoder/table", "lm_head.weight", "V D -> V D", padded="V"),)

HEADS = {
    "classes": (ClassifyText, (Row("heads/classes/w", "score.weight", "C D -> D C"),)),
    "tags": (Tag, bert.classes("tags", "score")),
}

_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "norm_epsilon": "rms_norm_eps",
    "init_scale": "initializer_range",
}
_BIASES = {
    "llama": ("none", "all"),
    "mistral": ("none", "none"),
    "qwen2": ("qkv", "qkv"),
    "qwen3": ("none", "all"),
}
# What transformers takes where a key is absent; null has a meaning of its own (as many heads, no window).
_ABSENT: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "qwen2": {"num_key_value_heads": 32, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "sliding_window": 4096},
}


def rows(config: Llama) -> tuple[Row, ...]:
    """The table for this config."""
    biases = {"none": (), "qkv": _QKV_BIASES, "all": _QKV_BIASES + _OUT_BIAS}[config.biases]
    norms = _QK_NORMS if config.qk_norm == "head" else ()
    return _COMMON + biases + norms + (_DECODER if config.embeddings == "untied" else ())


def current_name(name: str) -> str:
    """Names never changed."""
    return name


def fitted(config: Llama, names: Set[str]) -> Llama:
    """The file of a classifier has no decoder of tokens."""
    bare = "score.weight" in names and "lm_head.weight" not in names
    return dataclasses.replace(config, embeddings="tied") if bare else config


def from_hf_config(hf: Mapping[str, Any]) -> Llama:
    """A `Llama` from a config.json. Raises UserError for what our Llama does not have."""
    return Llama(**arguments(hf["model_type"], hf))


def arguments(kind: str, hf: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `Llama`, read as those of a model of this kind."""
    hf = collections.ChainMap(hf, _ABSENT[kind])  # type: ignore[arg-type]
    fields.refuse(hf, "mlp_bias", False, why="Our gated MLP has no biases.")
    fields.refuse(hf, "pretraining_tp", 1)
    fields.refuse(hf, "attention_dropout", 0, 0.0, why="Our Llama has no dropout.")
    heads = fields.number(hf, "num_attention_heads", int)
    hidden = fields.number(hf, "hidden_size", int)
    absent, present = _BIASES[kind]
    return {
        **fields.read(hf, _FIELDS, {"initializer_range": 0.02}),
        "kv_heads": fields.number(hf, "num_key_value_heads", int, heads),
        # Qwen3's default is 128, whatever the width; the others divide.
        "head_dim": fields.number(hf, "head_dim", int, 128 if kind == "qwen3" else hidden // max(heads, 1)),
        "activation": fields.activation(hf, "hidden_act", "silu"),
        "rope": _rope(hf),
        "embeddings": "tied" if fields.value(hf, "tie_word_embeddings", False) else "untied",
        "biases": present if hf.get("attention_bias") else absent,
        "qk_norm": "head" if kind == "qwen3" else "none",
        "windows": _windows(kind, hf),
    }


def to_hf_config(config: Llama) -> dict[str, Any]:
    """The contents of config.json. Raises UserError for a config that none of the four architectures has."""
    kind = _kind(config)
    names = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    parameters = _rope_parameters(config.rope)
    hf = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": kind,
        "architectures": [f"{names[kind]}ForCausalLM"],
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": fields.activation_name(config.activation),
        "tie_word_embeddings": config.embeddings == "tied",
        # In both spellings: transformers 5, and what came before it (and what other readers know).
        "rope_parameters": parameters,
        "rope_theta": config.rope.base,
    }
    if parameters["rope_type"] != "default":
        hf["rope_scaling"] = {k: v for k, v in parameters.items() if k != "rope_theta"}
    if kind in ("llama", "qwen3"):
        hf["attention_bias"] = config.biases == "all"
    if kind == "mistral":
        hf["sliding_window"] = config.windows[0]
    if kind.startswith("qwen"):
        hf |= _qwen_windows(config)
    return hf


def _kind(config: Llama) -> str:
    windowed = any(config.windows)
    if config.qk_norm == "head" and config.biases != "qkv":
        return "qwen3"
    if config.qk_norm == "none" and config.biases == "qkv":
        return "qwen2"
    if config.qk_norm == "none" and config.biases == "none" and len(set(config.windows)) == 1:
        return "mistral" if windowed else "llama"
    if config.qk_norm == "none" and not windowed:
        return "llama"
    raise UserError(
        f"No published architecture has biases={config.biases!r}, qk_norm={config.qk_norm!r} and "
        f"windows={config.windows} together: Llama has no window, Mistral one window and no biases, Qwen2 qkv biases, "
        "Qwen3 QK norm."
    )


def _windows(kind: str, hf: Mapping[str, Any]) -> tuple[int, ...]:
    if kind == "llama" or (kind != "mistral" and not hf.get("use_sliding_window")):
        return (0,)
    window = fields.number(hf, "sliding_window", int, 0)
    if kind == "mistral" or not window:
        return (window,)
    layers, full = hf["num_hidden_layers"], hf.get("max_window_layers", 28)
    types = hf.get("layer_types") or ["full_attention"] * full + ["sliding_attention"] * (layers - full)
    known = {"full_attention": 0, "sliding_attention": window}
    if set(types) - set(known):
        raise UserError(
            f"config.json: layer_types has {sorted(set(types) - set(known))}; known are {sorted(known)}."
        )
    return _shortest([known[t] for t in types[:layers]])


def _shortest(windows: list[int]) -> tuple[int, ...]:
    """The shortest pattern whose repetition gives these layers."""
    size = next(
        n for n in range(1, len(windows) + 1) if all(w == windows[i % n] for i, w in enumerate(windows))
    )
    return tuple(windows[:size])


def _qwen_windows(config: Llama) -> dict[str, Any]:
    sizes = set(config.windows) - {0}
    if len(sizes) > 1:
        raise UserError(f"windows={config.windows}: transformers has one size of window in a model.")
    cycle = [config.windows[i % len(config.windows)] for i in range(config.layers)]
    return {
        "use_sliding_window": bool(sizes),
        "sliding_window": next(iter(sizes), None),
        "layer_types": ["sliding_attention" if w else "full_attention" for w in cycle],
        "max_window_layers": cycle.index(next(iter(sizes))) if sizes else config.layers,
    }


def _rope_keys(hf: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """rope_scaling, else rope_parameters (transformers 5's); and rope_theta, which stands in either, or beside them."""
    newer, scaling = hf.get("rope_parameters") or {}, hf.get("rope_scaling") or {}
    found = dict(scaling or newer)
    base = float(found.get("rope_theta") or hf.get("rope_theta") or 10000.0)
    if newer.get("rope_theta", base) != base:
        raise UserError(
            f"config.json: rope_scaling stands beside rope_parameters, and counts; rope_theta={newer['rope_theta']} "
            f"stands in rope_parameters alone, so {base:g} would count. Put rope_theta into rope_scaling too."
        )
    if nested := [name for name, value in found.items() if isinstance(value, Mapping)]:
        raise UserError(f"config.json: RoPE of {nested[0]} alone: here all layers have the same.")
    for where in (hf, found):
        fields.refuse(where, "partial_rotary_factor", 1, 1.0)
    fields.refuse(hf, "original_max_position_embeddings", found.get("original_max_position_embeddings"))
    return found, base


def _rope(hf: Mapping[str, Any]) -> rope.Rope:
    found, base = _rope_keys(hf)
    kind = found.get("rope_type") or found.get("type") or "default"
    original = found.get("original_max_position_embeddings") or hf.get("max_position_embeddings")
    if kind == "default":
        return rope.Rope(base=base, scaling=rope.Unscaled())
    factor = fields.number(found, "factor", float)
    if kind == "linear":
        return rope.Rope(base=base, scaling=rope.Linear(factor=factor))
    if kind == "llama3":
        low, high = (fields.number(found, f"{name}_freq_factor", float) for name in ("low", "high"))
        scaling = rope.Llama3(
            factor=factor, low_frequency=low, high_frequency=high, original=int(original or 0)
        )
        return rope.Rope(base=base, scaling=scaling)
    if kind == "yarn":
        for name in ("mscale", "mscale_all_dim", "truncate"):
            fields.refuse(found, name, *((True,) if name == "truncate" else ()))
        published = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
        scaling = rope.Yarn(
            factor=factor,
            original=int(original or 0),
            beta_fast=fields.number(found, "beta_fast", float, 32.0),
            beta_slow=fields.number(found, "beta_slow", float, 1.0),
            attention_factor=fields.number(found, "attention_factor", float, published),
        )
        return rope.Rope(base=base, scaling=scaling)
    raise UserError(
        f"config.json: rope_type={kind!r}: known are default, linear, llama3, yarn. (dynamic and longrope make the "
        "angles of a token depend on the length of the whole text, which packed rows and a cache cannot keep.)"
    )


def _rope_parameters(config: rope.Rope) -> dict[str, Any]:
    scaling, found = config.scaling, {"rope_theta": config.base}
    match scaling:
        case rope.Unscaled():
            return found | {"rope_type": "default"}
        case rope.Linear():
            return found | {"rope_type": "linear", "factor": scaling.factor}
        case rope.Llama3():
            return found | {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_frequency,
                "high_freq_factor": scaling.high_frequency,
                "original_max_position_embeddings": scaling.original,
            }
        case rope.Yarn():
            return found | {
                "rope_type": "yarn",
                "factor": scaling.factor,
                "original_max_position_embeddings": scaling.original,
                "beta_fast": scaling.beta_fast,
                "beta_slow": scaling.beta_slow,
                "attention_factor": scaling.attention_factor,
            }
