"""T5, T5 1.1 and what shares their shape (Flan-T5, ByT5, UL2) between our parameters and T5ForConditionalGeneration.

In: a config.json or a `T5`. Out: the other, and the table of weights. Guaranteed: a head of its own, the tied table and
the tied table with scaled features are told apart by config.json and, where that says too little, by the tensors. The
encoder alone is convert/t5_encoder.py.
"""

import dataclasses
from collections.abc import Mapping, Set
from typing import Any

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.heads import ClassifyText, Span
from jaxlm.models.t5 import T5
from jaxlm.models.t5_encoder import T5Encoder

MODEL_TYPES = ("t5",)
TIED: Mapping[str, str] = {
    "encoder.embed_tokens.weight": "shared.weight",
    "decoder.embed_tokens.weight": "shared.weight",
    "lm_head.weight": "shared.weight",
}
# In the first published files, and never used.
IGNORED = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)
_HEAD = "lm_head.weight"
TOKENS = Row("tokens/table", "shared.weight", "V D -> V D", padded="V")


def _attention(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{ours}/wq", f"{theirs}.q.weight", "(N H) D -> D N H"),
        Row(f"{ours}/wk", f"{theirs}.k.weight", "(K H) D -> D K H"),
        Row(f"{ours}/wv", f"{theirs}.v.weight", "(K H) D -> D K H"),
        Row(f"{ours}/wo", f"{theirs}.o.weight", "D (N H) -> N H D"),
    )


def stack(side: str, gated: bool) -> tuple[Row, ...]:
    blocks, layer = f"{side}/blocks", side + ".block.{}.layer."
    mlp = 2 if side == "decoder" else 1
    cross = (
        Row(f"{blocks}/norm_cross/scale", f"{layer}1.layer_norm.weight"),
        *_attention(f"{blocks}/cross_attention", f"{layer}1.EncDecAttention"),
    )
    gate = (Row(f"{blocks}/mlp/w_gate", f"{layer}{mlp}.DenseReluDense.wi_0.weight", "F D -> D F"),)
    w_in = "wi_1" if gated else "wi"
    return (
        Row(f"{blocks}/norm_attention/scale", f"{layer}0.layer_norm.weight"),
        *_attention(f"{blocks}/attention", f"{layer}0.SelfAttention"),
        Row(
            f"{side}/relative_bias/table",
            f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        ),
        *(cross if side == "decoder" else ()),
        Row(f"{blocks}/norm_mlp/scale", f"{layer}{mlp}.layer_norm.weight"),
        *(gate if gated else ()),
        Row(f"{blocks}/mlp/w_in", f"{layer}{mlp}.DenseReluDense.{w_in}.weight", "F D -> D F"),
        Row(f"{blocks}/mlp/w_out", f"{layer}{mlp}.DenseReluDense.wo.weight", "D F -> F D"),
        Row(f"{side}/norm/scale", f"{side}.final_layer_norm.weight"),
    )


INSIDE = {"classes": "transformer."}
HEADS = {
    "classes": (
        ClassifyText,
        bert.deep_classes("classification_head.dense", "classification_head.out_proj"),
    ),
    "span": (Span(), bert.classes("span", "qa_outputs")),
}

_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "d_model",
    "encoder_layers": "num_layers",
    "heads": "num_heads",
    "head_dim": "d_kv",
    "mlp": "d_ff",
    "buckets": "relative_attention_num_buckets",
    "max_distance": "relative_attention_max_distance",
    "dropout": "dropout_rate",
    "norm_epsilon": "layer_norm_epsilon",
    "init_factor": "initializer_factor",
}
# What transformers assumes of files older than the key.
_DEFAULTS = {
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "layer_norm_epsilon": 1e-6,
    "initializer_factor": 1.0,
}


def rows(config: T5) -> tuple[Row, ...]:
    """The table for this config."""
    head = (Row("scores/table", _HEAD, "V D -> V D", padded="V"),) if config.head == "untied" else ()
    gated = config.gate == "gated"
    return (
        TOKENS,
        *stack("encoder", gated),
        *stack("decoder", gated),
        *head,
    )


def current_name(name: str) -> str:
    """Names never changed; a T5ForSequenceClassification has its T5 within."""
    return name.removeprefix(INSIDE["classes"])


def from_hf_config(hf: Mapping[str, Any]) -> T5:
    """A `T5` from a config.json. Raises UserError for what our T5 does not have."""
    # transformers takes tie_word_embeddings=false for "do not scale"; version 5 has a key for that, and writes true.
    tied = fields.value(hf, "tie_word_embeddings", True)
    scaled = hf.get("scale_decoder_outputs", tied)
    if scaled and not tied:
        raise UserError(
            "config.json: scale_decoder_outputs=true with tie_word_embeddings=false: no T5 has both. Take the file "
            "from the model's own folder."
        )
    return T5(
        **encoder(hf),
        decoder_layers=fields.number(hf, "num_decoder_layers", int, hf.get("num_layers")),
        head="scaled" if scaled else "untied",
    )


def fitted(config: T5, names: Set[str]) -> T5:
    """Without a head in the file, the embeddings score the tokens: what transformers 5 makes of a new T5 1.1."""
    return (
        dataclasses.replace(config, head="tied") if config.head == "untied" and _HEAD not in names else config
    )


def to_hf_config(config: T5) -> dict[str, Any]:
    """The contents of config.json."""
    return sizes(config) | {
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "num_decoder_layers": config.decoder_layers,
        "tie_word_embeddings": config.head != "untied",
        "scale_decoder_outputs": config.head == "scaled",
    }


def encoder(hf: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `T5Encoder`. UserError for what it does not have."""
    fields.refuse(
        hf, "is_decoder", False, why="Only the whole T5 and its encoder exist here, no decoder alone."
    )
    return fields.read(hf, _FIELDS, _DEFAULTS) | _mlp(hf)


def _mlp(hf: Mapping[str, Any]) -> dict[str, Any]:
    """`activation` and `gate`: 'gated-gelu' means the approximation, other names are those of activations."""
    name = str(fields.value(hf, "feed_forward_proj", "relu"))
    if name == "gated-gelu":
        return {"activation": "gelu_tanh", "gate": "gated"}
    found = {"feed_forward_proj": name.removeprefix("gated-")}
    gate = "gated" if name.startswith("gated-") else "none"
    return {"activation": fields.activation(found, "feed_forward_proj"), "gate": gate}


def sizes(config: T5Encoder) -> dict[str, Any]:
    """What config.json says of the encoder, and of all of T5."""
    found = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
    return found | {"model_type": "t5", "feed_forward_proj": _projection(config)}


def _projection(config: T5Encoder) -> str:
    if config.gate == "none":
        return fields.activation_name(config.activation)
    names = {"gelu_tanh": "gelu", "gelu": "gelu_python"}
    return f"gated-{names.get(config.activation, config.activation)}"
