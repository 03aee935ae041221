"""ModernBERT between our parameters and transformers' ModernBertForMaskedLM or bare ModernBertModel.

In: a config.json or a `ModernBert`. Out: the other, and the table of weights. Guaranteed: layers that do not alternate
as published, and biases, which the published models do not have, are refused by name.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.heads import Choose, ClassifyText, Span, Tag, Tokens
from jaxlm.models.modernbert import ModernBert

MODEL_TYPES = ("modernbert",)
TIED = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
IGNORED = (r"model\.rotary_emb\..*inv_freq", r"model\.layers\.\d+\.attn\.rotary_emb\.inv_freq")

_LAYER = "model.layers.{}."
_EVERY_BLOCK = (
    Row("attention/wq", _LAYER + "attn.Wqkv.weight", "(P N H) D -> D N H", part=(0, 3)),
    Row("attention/wk", _LAYER + "attn.Wqkv.weight", "(P N H) D -> D N H", part=(1, 3)),
    Row("attention/wv", _LAYER + "attn.Wqkv.weight", "(P N H) D -> D N H", part=(2, 3)),
    Row("attention/wo", _LAYER + "attn.Wo.weight", "D (N H) -> N H D"),
    Row("norm_mlp/scale", _LAYER + "mlp_norm.weight"),
    Row("mlp/w_gate", _LAYER + "mlp.Wi.weight", "(P F) D -> D F", part=(0, 2)),
    Row("mlp/w_in", _LAYER + "mlp.Wi.weight", "(P F) D -> D F", part=(1, 2)),
    Row("mlp/w_out", _LAYER + "mlp.Wo.weight", "D F -> F D"),
)
_LATER_BLOCKS = (*_EVERY_BLOCK, Row("norm_attention/scale", _LAYER + "attn_norm.weight"))
_AROUND = (
    Row("tokens/table", "model.embeddings.tok_embeddings.weight", "V D -> V D", padded="V"),
    Row("norm_tokens/scale", "model.embeddings.norm.weight"),
    Row("norm/scale", "model.final_norm.weight"),
)
_TOKEN_HEAD = (
    Row("heads/tokens/w", "head.dense.weight", "E D -> D E"),
    Row("heads/tokens/norm/scale", "head.norm.weight"),
    Row("heads/tokens/b_vocab", "decoder.bias", padded="V"),
)


def _classes(name: str) -> tuple[Row, ...]:
    """Of a head with classes; the layer before it has the names of that before the decoder."""
    return (
        *bert.classes(name),
        Row(f"heads/{name}/layer/w", "head.dense.weight", "E D -> D E"),
        Row(f"heads/{name}/layer/norm/scale", "head.norm.weight"),
    )


HEADS = {
    "classes": (ClassifyText, _classes("classes")),
    "tags": (Tag, _classes("tags")),
    "span": (Span(), _classes("span")),
    "choices": (Choose(), _classes("choices")),
    "tokens": (Tokens(), _TOKEN_HEAD),
}
PREFIX = "model."
_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "dropout": "attention_dropout",
    "norm_epsilon": "norm_eps",
    "init_scale": "initializer_range",
    "window": "local_attention",
}
# transformers' own defaults.
_DEFAULTS = {
    "norm_eps": 1e-5,
    "initializer_range": 0.02,
    "local_attention": 128,
    "attention_dropout": 0.0,
    "max_position_embeddings": 8192,
}
_BASES = {"global": 160_000.0, "local": 10_000.0}
_TYPES = {"global": "full_attention", "local": "sliding_attention"}


def rows(config: ModernBert) -> tuple[Row, ...]:
    """The table of the encoder."""
    under = lambda name, found, layers: tuple(
        dataclasses.replace(row, ours=f"{name}/{row.ours}", layers=tuple(layers)) for row in found
    )
    table = _AROUND + under("first", _EVERY_BLOCK, [0])
    return table + under("blocks", _LATER_BLOCKS, range(1, config.layers))


def from_hf_config(hf: Mapping[str, Any]) -> ModernBert:
    """A `ModernBert` from a config.json. Raises UserError for what our ModernBERT does not have."""
    for key in ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"):
        fields.refuse(hf, key, False, why="The published models have no biases.")
    for key in ("embedding_dropout", "mlp_dropout"):
        fields.refuse(
            hf, key, 0, 0.0, why="There is dropout on what attention adds, as published, and no other."
        )
    fields.refuse(hf, "decoder_bias", True)
    if "ForSequenceClassification" in str(hf.get("architectures")):
        fields.refuse(hf, "classifier_pooling", "cls", why="Classes of a text are read at its first token.")
    fields.refuse(hf, "tie_word_embeddings", True)
    activation = fields.activation(hf, "hidden_activation", "gelu")
    if fields.activation(hf, "classifier_activation", "gelu") != activation:
        raise UserError(
            f"config.json: classifier_activation={hf.get('classifier_activation')!r} differs from hidden_activation; "
            "the published models have one activation."
        )
    return ModernBert(
        **fields.read(hf, _FIELDS, _DEFAULTS),
        activation=activation,
        global_every=_global_every(hf),
        global_base=_base(hf, "global"),
        local_base=_base(hf, "local"),
    )


def to_hf_config(config: ModernBert, heads: Collection[str]) -> dict[str, Any]:
    """The contents of config.json."""
    bases = {"global": config.global_base, "local": config.local_base}
    name = fields.activation_name(config.activation)
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "modernbert",
        "architectures": ["ModernBertForMaskedLM" if "tokens" in heads else "ModernBertModel"],
        "hidden_activation": name,
        "classifier_activation": name,
        "layer_types": [_TYPES[kind] for kind in config.kinds],
        "global_attn_every_n_layers": config.global_every,
        # In both spellings: transformers 5, and what came before it (and what other readers know).
        "rope_parameters": {_TYPES[k]: {"rope_type": "default", "rope_theta": b} for k, b in bases.items()},
        **{f"{kind}_rope_theta": base for kind, base in bases.items()},
        "tie_word_embeddings": True,
    }


def current_name(name: str) -> str:
    """Files of a bare ModernBertModel have no prefix."""
    return f"model.{name}" if name.startswith(("embeddings.", "layers.", "final_norm.")) else name


def _global_every(hf: Mapping[str, Any]) -> int:
    types = hf.get("layer_types")
    if types is None:
        return fields.number(hf, "global_attn_every_n_layers", int, 3)
    if not isinstance(types, Sequence) or not types or types[0] != _TYPES["global"]:
        raise UserError(
            f"config.json: layer_types={types!r}: the first layer of a ModernBERT is full_attention."
        )
    later = [i for i, kind in enumerate(types) if i and kind == _TYPES["global"]]
    # Without a second global layer the list does not tell; the older key may.
    every = later[0] if later else max(len(types), fields.number(hf, "global_attn_every_n_layers", int, 1))
    if list(types) != [_TYPES["local" if i % every else "global"] for i in range(len(types))]:
        raise UserError(
            f"config.json: layer_types={list(types)}: local and global layers alternate here as published, every n-th "
            "from the first is global."
        )
    return every


def _base(hf: Mapping[str, Any], kind: str) -> float:
    found = (hf.get("rope_parameters") or {}).get(_TYPES[kind]) or {}
    fields.refuse(found, "rope_type", "default", why="RoPE of ModernBERT is not scaled.")
    fields.refuse(hf, "rope_scaling", why="RoPE of ModernBERT is not scaled.")
    older = fields.number(hf, f"{kind}_rope_theta", float, _BASES[kind])
    return fields.number(found, "rope_theta", float, older)
