"""BERT between our parameters and transformers' BertForPreTraining (next_sentence "pooled") or
BertForMaskedLM ("none").

In: a dict of numpy arrays under transformers' names and a `Bert` config, or our parameters. Out: the other
side, and config.json both ways. Guaranteed: the exported vocabulary is unpadded; a round trip is bit-
identical; names that do not fit are listed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.convert import table
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.models.mlp import Activation

_LAYER = "bert.encoder.layer.{}."

_ENCODER = (
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
_NEXT_SENTENCE_HEAD = (
    Row("next_sentence_head/w_pool", "bert.pooler.dense.weight", "E D -> D E"),
    Row("next_sentence_head/b_pool", "bert.pooler.dense.bias"),
    Row("next_sentence_head/w", "cls.seq_relationship.weight", "C D -> D C"),
    Row("next_sentence_head/b", "cls.seq_relationship.bias"),
)
# Copies of other weights that some files hold besides them.
_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
_BUFFER = "bert.embeddings.position_ids"

# ours -> theirs, for config.json
_FIELDS = {
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
_ACTIVATIONS: dict[Activation, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "relu": "relu",
    "silu": "silu",
}
_ARCHITECTURES = {"pooled": "BertForPreTraining", "none": "BertForMaskedLM"}


def rows(config: Bert) -> tuple[Row, ...]:
    """The table for this config."""
    return _ENCODER + _TOKEN_HEAD + (_NEXT_SENTENCE_HEAD if config.next_sentence == "pooled" else ())


def import_params(state_dict: Mapping[str, np.ndarray], config: Bert) -> dict[str, Any]:
    """Our parameters (nested dict of numpy arrays) from transformers' tensors."""
    tensors = {_current_name(name): array for name, array in state_dict.items()}
    tensors.pop(_BUFFER, None)
    for copy, original in _TIED.items():
        array = tensors.pop(copy, None)
        if array is not None and original in tensors and not np.array_equal(array, tensors[original]):
            raise UserError(
                f"{copy} differs from {original}: our decoder is tied, so this checkpoint cannot be held."
            )
    return table.to_ours(rows(config), tensors, build(config).shapes, {"V": config.vocab_size})


def export_params(params: Mapping[str, Any], config: Bert) -> dict[str, np.ndarray]:
    """transformers' tensors from our parameters; tied copies are left out, as in files that transformers
    saves.
    """
    return table.to_theirs(rows(config), params, {"V": config.vocab_size})


def from_hf_config(hf: Mapping[str, Any]) -> Bert:
    """A `Bert` from a config.json. Raises UserError for what our BERT does not have."""
    activations: dict[str, Activation] = {theirs: ours for ours, theirs in _ACTIVATIONS.items()}
    if hf["hidden_act"] not in activations:
        raise UserError(f"hidden_act={hf['hidden_act']!r}: known activations are {sorted(activations)}.")
    if hf.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"position_embedding_type={hf['position_embedding_type']!r}: only 'absolute' exists here."
        )
    if hf.get("is_decoder") or hf.get("add_cross_attention"):
        raise UserError(
            "This BERT is a decoder (is_decoder or add_cross_attention); only encoders exist here."
        )
    return Bert(
        **{ours: hf[theirs] for ours, theirs in _FIELDS.items()},
        activation=activations[hf["hidden_act"]],
        position_init="normal",
        next_sentence="none" if "BertForMaskedLM" in (hf.get("architectures") or ()) else "pooled",
    )


def to_hf_config(config: Bert) -> dict[str, Any]:
    """The contents of config.json."""
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "bert",
        "architectures": [_ARCHITECTURES[config.next_sentence]],
        "hidden_act": _ACTIVATIONS[config.activation],
        "tie_word_embeddings": True,
    }


def _current_name(name: str) -> str:
    """Files converted from the original TensorFlow release call the norm's parameters gamma and beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
