"""DistilBERT between our parameters and transformers' DistilBertForMaskedLM or bare DistilBertModel.

In: a config.json or a `DistilBert`. Out: the other, and the table of weights. Guaranteed: a norm's epsilon that
transformers, which has it fixed, would not use is refused.
"""

from collections.abc import Collection, Mapping
from typing import Any

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.distilbert import DistilBert
from jaxlm.models.heads import Choose, ClassifyText, Span, Tag, Tokens

MODEL_TYPES = ("distilbert",)
TIED = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}
IGNORED = (r"distilbert\.embeddings\.position_ids",)

_LAYER = "distilbert.transformer.layer.{}."
_ENCODER = (
    Row("embeddings/tokens/table", "distilbert.embeddings.word_embeddings.weight", "V D -> V D", padded="V"),
    Row("embeddings/positions", "distilbert.embeddings.position_embeddings.weight"),
    Row("embeddings/norm/scale", "distilbert.embeddings.LayerNorm.weight"),
    Row("embeddings/norm/bias", "distilbert.embeddings.LayerNorm.bias"),
    Row("blocks/attention/wq", _LAYER + "attention.q_lin.weight", "(N H) D -> D N H"),
    Row("blocks/attention/bq", _LAYER + "attention.q_lin.bias", "(N H) -> N H"),
    Row("blocks/attention/wk", _LAYER + "attention.k_lin.weight", "(N H) D -> D N H"),
    Row("blocks/attention/bk", _LAYER + "attention.k_lin.bias", "(N H) -> N H"),
    Row("blocks/attention/wv", _LAYER + "attention.v_lin.weight", "(N H) D -> D N H"),
    Row("blocks/attention/bv", _LAYER + "attention.v_lin.bias", "(N H) -> N H"),
    Row("blocks/attention/wo", _LAYER + "attention.out_lin.weight", "D (N H) -> N H D"),
    Row("blocks/attention/bo", _LAYER + "attention.out_lin.bias"),
    Row("blocks/norm_attention/scale", _LAYER + "sa_layer_norm.weight"),
    Row("blocks/norm_attention/bias", _LAYER + "sa_layer_norm.bias"),
    Row("blocks/mlp/w_in", _LAYER + "ffn.lin1.weight", "F D -> D F"),
    Row("blocks/mlp/b_in", _LAYER + "ffn.lin1.bias"),
    Row("blocks/mlp/w_out", _LAYER + "ffn.lin2.weight", "D F -> F D"),
    Row("blocks/mlp/b_out", _LAYER + "ffn.lin2.bias"),
    Row("blocks/norm_mlp/scale", _LAYER + "output_layer_norm.weight"),
    Row("blocks/norm_mlp/bias", _LAYER + "output_layer_norm.bias"),
)
_TOKEN_HEAD = (
    Row("heads/tokens/w", "vocab_transform.weight", "E D -> D E"),
    Row("heads/tokens/b", "vocab_transform.bias"),
    Row("heads/tokens/norm/scale", "vocab_layer_norm.weight"),
    Row("heads/tokens/norm/bias", "vocab_layer_norm.bias"),
    Row("heads/tokens/b_vocab", "vocab_projector.bias", padded="V"),
)
HEADS = {
    "tokens": (Tokens(), _TOKEN_HEAD),
    "classes": (ClassifyText, bert.deep_classes("pre_classifier", "classifier")),
    "tags": (Tag, bert.classes("tags")),
    "span": (Span(), bert.classes("span", "qa_outputs")),
    "choices": (Choose(), bert.deep_classes("pre_classifier", "classifier", "choices")),
}
PREFIX = "distilbert."
_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "dim",
    "layers": "n_layers",
    "heads": "n_heads",
    "mlp": "hidden_dim",
    "max_positions": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "init_scale": "initializer_range",
}
_EPSILON = 1e-12  # of all norms in transformers' code


def rows(config: DistilBert) -> tuple[Row, ...]:
    """The table of the encoder."""
    return _ENCODER


def from_hf_config(hf: Mapping[str, Any]) -> DistilBert:
    """A `DistilBert` from a config.json. Raises UserError for what our DistilBERT does not have."""
    fields.refuse(hf, "tie_word_embeddings", True)
    fields.refuse(hf, "sinusoidal_pos_embds", True, False)
    return DistilBert(
        **fields.read(hf, _FIELDS, {"initializer_range": 0.02}),
        norm_epsilon=_EPSILON,
        activation=fields.activation(hf, "activation", "gelu"),
        position_init="sinusoidal" if hf.get("sinusoidal_pos_embds") else "normal",
    )


def to_hf_config(config: DistilBert, heads: Collection[str]) -> dict[str, Any]:
    """The contents of config.json. Raises UserError for an epsilon that transformers' DistilBERT does not have."""
    if config.norm_epsilon != _EPSILON:
        raise UserError(
            f"norm_epsilon={config.norm_epsilon}: transformers' DistilBERT always uses {_EPSILON}, so the file would "
            "compute something else there."
        )
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "distilbert",
        "architectures": ["DistilBertForMaskedLM" if "tokens" in heads else "DistilBertModel"],
        "activation": fields.activation_name(config.activation),
        "sinusoidal_pos_embds": config.position_init == "sinusoidal",
        "tie_word_embeddings": True,
    }


def current_name(name: str) -> str:
    """Files of a bare DistilBertModel have no prefix."""
    return f"distilbert.{name}" if name.startswith(("embeddings.", "transformer.")) else name
