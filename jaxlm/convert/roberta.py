"""RoBERTa between our parameters and transformers' RobertaForMaskedLM or bare RobertaModel (and XLMRoberta's).

The two families differ in config.json's name alone; what goes out is called roberta. Which heads there are is read from
the tensors of a file: the published ones hold a pooler beside the token head.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.heads import Choose, ClassifyText, Pooler, Span, Tag, Tokens
from jaxlm.models.roberta import Roberta

MODEL_TYPES = ("roberta", "xlm-roberta")
TIED = {
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",
}
IGNORED = (r"roberta\.embeddings\.(position_ids|token_type_ids)",)

_ENCODER = tuple(
    dataclasses.replace(row, theirs=row.theirs.replace("bert.", "roberta.", 1)) for row in bert.ENCODER
)
_TOKEN_HEAD = (
    Row("heads/tokens/w", "lm_head.dense.weight", "E D -> D E"),
    Row("heads/tokens/b", "lm_head.dense.bias"),
    Row("heads/tokens/norm/scale", "lm_head.layer_norm.weight"),
    Row("heads/tokens/norm/bias", "lm_head.layer_norm.bias"),
    Row("heads/tokens/b_vocab", "lm_head.bias", padded="V"),
)
_POOLER = (
    Row("heads/pooler/w", "roberta.pooler.dense.weight", "E D -> D E"),
    Row("heads/pooler/b", "roberta.pooler.dense.bias"),
)
HEADS = {
    "tokens": (Tokens(), _TOKEN_HEAD),
    "pooler": (Pooler(), _POOLER),
    "classes": (ClassifyText, bert.deep_classes("classifier.dense", "classifier.out_proj")),
    "tags": (Tag, bert.classes("tags")),
    "span": (Span(), bert.classes("span", "qa_outputs")),
    "choices": (Choose(), bert.classes("choices")),
}
PREFIX = "roberta."
_FIELDS = {ours: theirs for ours, theirs in bert.FIELDS.items() if ours not in ("types", "max_positions")}
# What transformers assumes of files older than the key.
_DEFAULTS = {"layer_norm_eps": 1e-12, "initializer_range": 0.02, "hidden_act": "gelu"}


def rows(config: Roberta) -> tuple[Row, ...]:
    """The table of the encoder."""
    return _ENCODER


def from_hf_config(hf: Mapping[str, Any]) -> Roberta:
    """A `Roberta` from a config.json. Raises UserError for what our RoBERTa does not have."""
    fields.refuse(hf, "position_embedding_type", "absolute")
    fields.refuse(hf, "is_decoder", False, why="Only encoders exist here.")
    fields.refuse(hf, "add_cross_attention", False, why="Only encoders exist here.")
    fields.refuse(hf, "tie_word_embeddings", True)
    # 1: what transformers writes; 2 is its default, which no published RoBERTa has.
    if fields.number(hf, "type_vocab_size", int, 2) != 1:
        raise UserError(
            f"config.json: type_vocab_size={hf.get('type_vocab_size', 2)!r}: there is one token type, as published."
        )
    first = fields.number(hf, "pad_token_id", int, 1) + 1
    bare = (hf.get("architectures") or ["RobertaForMaskedLM"])[0] in ("RobertaModel", "XLMRobertaModel")
    if not bare:
        fields.refuse(hf, "hidden_act", "gelu", "gelu_python", why="The token head always uses it.")
    return Roberta(
        **fields.read(hf, _FIELDS, _DEFAULTS),
        activation=fields.activation(hf, "hidden_act", "gelu"),
        max_positions=fields.number(hf, "max_position_embeddings", int) - first,
        first_position=first,
    )


def to_hf_config(config: Roberta, heads: Collection[str]) -> dict[str, Any]:
    """The contents of config.json. Raises UserError for an activation that transformers' token head does not have."""
    if "tokens" in heads and config.activation != "gelu":
        raise UserError(
            f"activation={config.activation!r}: the token head of transformers' RoBERTa always uses 'gelu', so "
            "the file would compute something else there."
        )
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "roberta",
        "architectures": ["RobertaForMaskedLM" if "tokens" in heads else "RobertaModel"],
        "hidden_act": fields.activation_name(config.activation),
        "max_position_embeddings": config.max_positions + config.first_position,
        "type_vocab_size": 1,
        "pad_token_id": config.first_position - 1,
        "tie_word_embeddings": True,
    }


def current_name(name: str) -> str:
    """Older files say gamma and beta; those of a bare RobertaModel have no prefix."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return f"roberta.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name
