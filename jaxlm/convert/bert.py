"""BERT between our parameters and transformers' BertForPreTraining, BertForMaskedLM or bare BertModel.

Which heads there are is read from the tensors of a file: many published files hold more, or less, than their
config.json's `architectures` says.
"""

from collections.abc import Collection, Mapping
from typing import Any

from jaxlm.convert import fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.bert import Bert
from jaxlm.models.heads import Choose, Classify, ClassifyText, Pooler, Span, Tag, Tokens

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
    Row("heads/tokens/w", "cls.predictions.transform.dense.weight", "E D -> D E"),
    Row("heads/tokens/b", "cls.predictions.transform.dense.bias"),
    Row("heads/tokens/norm/scale", "cls.predictions.transform.LayerNorm.weight"),
    Row("heads/tokens/norm/bias", "cls.predictions.transform.LayerNorm.bias"),
    Row("heads/tokens/b_vocab", "cls.predictions.bias", padded="V"),
)
_POOLER = (
    Row("heads/pooler/w", "bert.pooler.dense.weight", "E D -> D E"),
    Row("heads/pooler/b", "bert.pooler.dense.bias"),
)


def classes(name: str, theirs: str = "classifier") -> tuple[Row, ...]:
    """The last layer of the head `name`: an answer about pairs, a class of texts or of tokens."""
    return (
        Row(f"heads/{name}/w", f"{theirs}.weight", "C D -> D C"),
        Row(f"heads/{name}/b", f"{theirs}.bias"),
    )


def deep_classes(layer: str, last: str, name: str = "classes") -> tuple[Row, ...]:
    """Of the head `name` with a layer of its own in place of the pooler."""
    return (
        Row(f"heads/{name}/layer/w", f"{layer}.weight", "E D -> D E"),
        Row(f"heads/{name}/layer/b", f"{layer}.bias"),
        *classes(name, last),
    )


# Files hold one question; which one is not said in them, and the first here is what BERT was published with.
HEADS = {
    "tokens": (Tokens(), _TOKEN_HEAD),
    "pooler": (Pooler(), _POOLER),
    "nsp": (Classify(classes=2), classes("nsp", "cls.seq_relationship")),
    "sop": (Classify(classes=2), classes("sop", "cls.seq_relationship")),
    "classes": (ClassifyText, classes("classes")),
    "tags": (Tag, classes("tags")),
    "span": (Span(), classes("span", "qa_outputs")),
    "choices": (Choose(), classes("choices")),
}
PREFIX = "bert."

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


def rows(config: Bert) -> tuple[Row, ...]:
    """The table of the encoder."""
    return ENCODER


def from_hf_config(hf: Mapping[str, Any]) -> Bert:
    """A `Bert` from a config.json. Raises UserError for what our BERT does not have."""
    fields.refuse(hf, "position_embedding_type", "absolute")
    if hf.get("is_decoder") or hf.get("add_cross_attention"):
        raise UserError(
            "This BERT is a decoder (is_decoder or add_cross_attention); only encoders exist here."
        )
    fields.refuse(hf, "tie_word_embeddings", True)
    return Bert(
        **fields.read(hf, FIELDS, _DEFAULTS),
        activation=fields.activation(hf, "hidden_act"),
        position_init="normal",
    )


def to_hf_config(config: Bert, heads: Collection[str]) -> dict[str, Any]:
    """The contents of config.json."""
    return {theirs: getattr(config, ours) for ours, theirs in FIELDS.items()} | {
        "model_type": "bert",
        "architectures": [_architecture(heads)],
        "hidden_act": fields.activation_name(config.activation),
        "tie_word_embeddings": True,
    }


def current_name(name: str) -> str:
    """Files of the original TensorFlow release say gamma and beta; those of a bare BertModel have no prefix."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def _architecture(heads: Collection[str]) -> str:
    pairs = bool({"nsp", "sop"} & set(heads))
    if "tokens" in heads:
        return "BertForPreTraining" if pairs else "BertForMaskedLM"
    return "BertForNextSentencePrediction" if pairs else "BertModel"
