"""BERT between our parameters and transformers' BertForPreTraining, BertForMaskedLM or bare BertModel.

Which heads there are is in the config, and read from the tensors of a file: many published files hold more, or less,
than their config.json's `architectures` says.
"""

import dataclasses
from collections.abc import Mapping, Set
from typing import Any, Literal

from jaxlm.convert import fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.bert import Bert

MODEL_TYPES = ("bert",)
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
IGNORED = (r"bert\.embeddings\.(position_ids|token_type_ids)",)

_LAYER = "bert.encoder.layer.{}."
ENCODER = (
    Row("embeddings/tokens/table", "bert.embeddings.word_embeddings.weight", "V D -> V D", padded="V"),
    Row("embeddings/positions", "bert.embeddings.position_embeddings.weight"),
    Row("embeddings/types", "bert.embeddings.token_type_embeddings.weight"),
    Row("embeddings/norm/scale", "bert.embeddings.LayerNorm.weight"),
    Row("embeddings/norm/bias", "bert.embeddings.LayerNorm.bias"),
    Row("blocks/attention/wq", _LAYER + "attention.self.query.weight", "(N H) D -> D N H"),
    Row("blocks/attention/bq", _LAYER + "attention.self.query.bias", "(N H) -> N H"),
    Row("blocks/attention/wk", _LAYER + "attention.self.key.weight", "(N H) D -> D N H"),
    Row("blocks/attention/bk", _LAYER + "attention.self.key.bias", "(N H) -> N H"),
    Row("blocks/attention/wv", _LAYER + "attention.self.value.weight", "(N H) D -> D N H"),
    Row("blocks/attention/bv", _LAYER + "attention.self.value.bias", "(N H) -> N H"),
    Row("blocks/attention/wo", _LAYER + "attention.output.dense.weight", "D (N H) -> N H D"),
    Row("blocks/attention/bo", _LAYER + "attention.output.dense.bias"),
    Row("blocks/norm_attention/scale", _LAYER + "attention.output.LayerNorm.weight"),
    Row("blocks/norm_attention/bias", _LAYER + "attention.output.LayerNorm.bias"),
    Row("blocks/mlp/w_in", _LAYER + "intermediate.dense.weight", "F D -> D F"),
    Row("blocks/mlp/b_in", _LAYER + "intermediate.dense.bias"),
    Row("blocks/mlp/w_out", _LAYER + "output.dense.weight", "D F -> F D"),
    Row("blocks/mlp/b_out", _LAYER + "output.dense.bias"),
    Row("blocks/norm_mlp/scale", _LAYER + "output.LayerNorm.weight"),
    Row("blocks/norm_mlp/bias", _LAYER + "output.LayerNorm.bias"),
)
_TOKEN_HEAD = (
    Row("token_head/w", "cls.predictions.transform.dense.weight", "E D -> D E"),
    Row("token_head/b", "cls.predictions.transform.dense.bias"),
    Row("token_head/norm/scale", "cls.predictions.transform.LayerNorm.weight"),
    Row("token_head/norm/bias", "cls.predictions.transform.LayerNorm.bias"),
    Row("token_head/b_vocab", "cls.predictions.bias", padded="V"),
)
_POOLER = (
    Row("next_sentence_head/w_pool", "bert.pooler.dense.weight", "E D -> D E"),
    Row("next_sentence_head/b_pool", "bert.pooler.dense.bias"),
)
_CLASSES = (
    Row("next_sentence_head/w", "cls.seq_relationship.weight", "C D -> D C"),
    Row("next_sentence_head/b", "cls.seq_relationship.bias"),
)

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "types": "type_vocab_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_epsilon": "layer_norm_eps",
    "init_scale": "initializer_range",
}
# What transformers assumes of files older than the key.
_DEFAULTS = {"layer_norm_eps": 1e-12, "initializer_range": 0.02}
# (token_head, next_sentence) -> architecture; a pooler beside a token head has no class of its own. An architecture
# stands first with the heads that it has.
_ARCHITECTURES: Mapping[tuple[Literal["transform", "none"], Literal["pooled", "pooler", "none"]], str] = {
    ("transform", "pooled"): "BertForPreTraining",
    ("transform", "none"): "BertForMaskedLM",
    ("transform", "pooler"): "BertForMaskedLM",
    ("none", "pooled"): "BertForNextSentencePrediction",
    ("none", "pooler"): "BertModel",
    ("none", "none"): "BertModel",
}


def rows(config: Bert) -> tuple[Row, ...]:
    """The table for this config."""
    table = ENCODER + (_TOKEN_HEAD if config.token_head == "transform" else ())
    table += {"pooled": _POOLER + _CLASSES, "pooler": _POOLER, "none": ()}[config.next_sentence]
    if _architecture(config) != "BertModel":
        return table
    return tuple(dataclasses.replace(row, theirs=row.theirs.removeprefix("bert.")) for row in table)


def from_hf_config(hf: Mapping[str, Any]) -> Bert:
    """A `Bert` from a config.json. Raises UserError for what our BERT does not have."""
    fields.refuse(hf, "position_embedding_type", "absolute")
    if hf.get("is_decoder") or hf.get("add_cross_attention"):
        raise UserError(
            "This BERT is a decoder (is_decoder or add_cross_attention); only encoders exist here."
        )
    fields.refuse(hf, "tie_word_embeddings", True)
    architecture = (hf.get("architectures") or ["BertForPreTraining"])[0]
    heads = {name: heads for heads, name in reversed(list(_ARCHITECTURES.items()))}
    token_head, next_sentence = heads.get(architecture, ("transform", "none"))
    return Bert(
        **fields.read(hf, FIELDS, _DEFAULTS),
        activation=fields.activation(hf, "hidden_act"),
        position_init="normal",
        token_head=token_head,  # type: ignore[arg-type]
        next_sentence=next_sentence,  # type: ignore[arg-type]
    )


def fitted(config: Bert, names: Set[str]) -> Bert:
    """The config with the heads that a file holds."""
    has = {row.ours: row.theirs in names for row in _TOKEN_HEAD + _POOLER + _CLASSES}
    pooled = "pooled" if has["next_sentence_head/w"] else "pooler"
    return dataclasses.replace(
        config,
        token_head="transform" if has["token_head/w"] else "none",
        next_sentence=pooled if has["next_sentence_head/w_pool"] else "none",
    )


def to_hf_config(config: Bert) -> dict[str, Any]:
    """The contents of config.json."""
    return {theirs: getattr(config, ours) for ours, theirs in FIELDS.items()} | {
        "model_type": "bert",
        "architectures": [_architecture(config)],
        "hidden_act": fields.activation_name(config.activation),
        "tie_word_embeddings": True,
    }


def current_name(name: str) -> str:
    """Files of the original TensorFlow release say gamma and beta; those of a bare BertModel have no prefix."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def _architecture(config: Bert) -> str:
    return _ARCHITECTURES[config.token_head, config.next_sentence]
