"""ALBERT between our parameters and transformers' AlbertForPreTraining, AlbertForMaskedLM or bare AlbertModel.

Which heads there are is read from the tensors of a file.
"""

from collections.abc import Collection, Mapping
from typing import Any

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.models.albert import Albert
from jaxlm.models.heads import Choose, Classify, ClassifyText, Pooler, Span, Tag, Tokens

MODEL_TYPES = ("albert",)
TIED = {
    "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
    "predictions.decoder.bias": "predictions.bias",
}
IGNORED = (r"albert\.embeddings\.(position_ids|token_type_ids)",)

_BLOCK = "albert.encoder.albert_layer_groups.0.albert_layers.0."
_ENCODER = (
    Row("embeddings/tokens/table", "albert.embeddings.word_embeddings.weight", "V D -> V D", padded="V"),
    Row("embeddings/positions", "albert.embeddings.position_embeddings.weight"),
    Row("embeddings/types", "albert.embeddings.token_type_embeddings.weight"),
    Row("embeddings/norm/scale", "albert.embeddings.LayerNorm.weight"),
    Row("embeddings/norm/bias", "albert.embeddings.LayerNorm.bias"),
    Row("project/w", "albert.encoder.embedding_hidden_mapping_in.weight", "D E -> E D"),
    Row("project/b", "albert.encoder.embedding_hidden_mapping_in.bias"),
    Row("block/attention/wq", _BLOCK + "attention.query.weight", "(N H) D -> D N H"),
    Row("block/attention/bq", _BLOCK + "attention.query.bias", "(N H) -> N H"),
    Row("block/attention/wk", _BLOCK + "attention.key.weight", "(N H) D -> D N H"),
    Row("block/attention/bk", _BLOCK + "attention.key.bias", "(N H) -> N H"),
    Row("block/attention/wv", _BLOCK + "attention.value.weight", "(N H) D -> D N H"),
    Row("block/attention/bv", _BLOCK + "attention.value.bias", "(N H) -> N H"),
    Row("block/attention/wo", _BLOCK + "attention.dense.weight", "D (N H) -> N H D"),
    Row("block/attention/bo", _BLOCK + "attention.dense.bias"),
    Row("block/norm_attention/scale", _BLOCK + "attention.LayerNorm.weight"),
    Row("block/norm_attention/bias", _BLOCK + "attention.LayerNorm.bias"),
    Row("block/mlp/w_in", _BLOCK + "ffn.weight", "F D -> D F"),
    Row("block/mlp/b_in", _BLOCK + "ffn.bias"),
    Row("block/mlp/w_out", _BLOCK + "ffn_output.weight", "D F -> F D"),
    Row("block/mlp/b_out", _BLOCK + "ffn_output.bias"),
    Row("block/norm_mlp/scale", _BLOCK + "full_layer_layer_norm.weight"),
    Row("block/norm_mlp/bias", _BLOCK + "full_layer_layer_norm.bias"),
)
_TOKEN_HEAD = (
    Row("heads/tokens/w", "predictions.dense.weight", "E D -> D E"),
    Row("heads/tokens/b", "predictions.dense.bias"),
    Row("heads/tokens/norm/scale", "predictions.LayerNorm.weight"),
    Row("heads/tokens/norm/bias", "predictions.LayerNorm.bias"),
    Row("heads/tokens/b_vocab", "predictions.bias", padded="V"),
)
_POOLER = (
    Row("heads/pooler/w", "albert.pooler.weight", "E D -> D E"),
    Row("heads/pooler/b", "albert.pooler.bias"),
)
HEADS = {
    "tokens": (Tokens(), _TOKEN_HEAD),
    "pooler": (Pooler(), _POOLER),
    "sop": (Classify(classes=2), bert.classes("sop", "sop_classifier.classifier")),
    "nsp": (Classify(classes=2), bert.classes("nsp", "sop_classifier.classifier")),
    "classes": (ClassifyText, bert.classes("classes")),
    "tags": (Tag, bert.classes("tags")),
    "span": (Span(), bert.classes("span", "qa_outputs")),
    "choices": (Choose(), bert.classes("choices")),
}
PREFIX = "albert."
_FIELDS = bert.FIELDS | {"embedding": "embedding_size"}
# What transformers assumes of files older than the key.
_DEFAULTS = {"layer_norm_eps": 1e-12, "initializer_range": 0.02}


def rows(config: Albert) -> tuple[Row, ...]:
    """The table of the encoder."""
    return _ENCODER


def from_hf_config(hf: Mapping[str, Any]) -> Albert:
    """An `Albert` from a config.json. Raises UserError for what our ALBERT does not have."""
    for key in ("num_hidden_groups", "inner_group_num"):
        fields.refuse(hf, key, 1, why="There is one block for all layers, as published.")
    fields.refuse(hf, "position_embedding_type", "absolute")
    fields.refuse(hf, "tie_word_embeddings", True)
    return Albert(
        **fields.read(hf, _FIELDS, _DEFAULTS),
        activation=fields.activation(hf, "hidden_act", "gelu_new"),
    )


def to_hf_config(config: Albert, heads: Collection[str]) -> dict[str, Any]:
    """The contents of config.json."""
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "albert",
        "architectures": [_architecture(heads)],
        "hidden_act": fields.activation_name(config.activation),
        "num_hidden_groups": 1,
        "inner_group_num": 1,
        "tie_word_embeddings": True,
    }


def current_name(name: str) -> str:
    """Older files say gamma and beta; those of a bare AlbertModel have no prefix."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return f"albert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def _architecture(heads: Collection[str]) -> str:
    if {"nsp", "sop"} & set(heads):
        return "AlbertForPreTraining"
    return "AlbertForMaskedLM" if "tokens" in heads else "AlbertModel"
