"""BART between our parameters and transformers' BartForConditionalGeneration.

In: a config.json or a `Bart`. Out: the other, and the table of weights. Guaranteed: the bias of the logits, which
published files hold as zeros, is written as zeros, and a file in which it is anything else is refused.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.bart import Bart
from jaxlm.models.heads import ClassifyText, Span

MODEL_TYPES = ("bart",)
TIED: Mapping[str, str] = {
    "model.encoder.embed_tokens.weight": "model.shared.weight",
    "model.decoder.embed_tokens.weight": "model.shared.weight",
    "lm_head.weight": "model.shared.weight",
}
IGNORED = (r"model\.(encoder|decoder)\.version",)
# torch's default, which transformers' BART and Marian do not let anyone change.
NORM_EPSILON = 1e-5


def _attention(ours: str, theirs: str) -> tuple[Row, ...]:
    return (
        Row(f"{ours}/wq", f"{theirs}.q_proj.weight", "(N H) D -> D N H"),
        Row(f"{ours}/bq", f"{theirs}.q_proj.bias", "(N H) -> N H"),
        Row(f"{ours}/wk", f"{theirs}.k_proj.weight", "(N H) D -> D N H"),
        Row(f"{ours}/bk", f"{theirs}.k_proj.bias", "(N H) -> N H"),
        Row(f"{ours}/wv", f"{theirs}.v_proj.weight", "(N H) D -> D N H"),
        Row(f"{ours}/bv", f"{theirs}.v_proj.bias", "(N H) -> N H"),
        Row(f"{ours}/wo", f"{theirs}.out_proj.weight", "D (N H) -> N H D"),
        Row(f"{ours}/bo", f"{theirs}.out_proj.bias"),
    )


def _norm(ours: str, theirs: str) -> tuple[Row, Row]:
    return Row(f"{ours}/scale", f"{theirs}.weight"), Row(f"{ours}/bias", f"{theirs}.bias")


def blocks(side: str) -> tuple[Row, ...]:
    """The blocks of the "encoder" or the "decoder"; Marian has the same names."""
    ours, layer = f"{side}/blocks", f"model.{side}.layers." + "{}."
    cross = (
        *_attention(f"{ours}/cross_attention", layer + "encoder_attn"),
        *_norm(f"{ours}/norm_cross", layer + "encoder_attn_layer_norm"),
    )
    return (
        *_attention(f"{ours}/attention", layer + "self_attn"),
        *_norm(f"{ours}/norm_attention", layer + "self_attn_layer_norm"),
        *(cross if side == "decoder" else ()),
        Row(f"{ours}/mlp/w_in", layer + "fc1.weight", "F D -> D F"),
        Row(f"{ours}/mlp/b_in", layer + "fc1.bias"),
        Row(f"{ours}/mlp/w_out", layer + "fc2.weight", "D F -> F D"),
        Row(f"{ours}/mlp/b_out", layer + "fc2.bias"),
        *_norm(f"{ours}/norm_mlp", layer + "final_layer_norm"),
    )


TOKENS = Row("tokens/table", "model.shared.weight", "V D -> V D", padded="V")
_ROWS = (
    TOKENS,
    Row("encoder/positions", "model.encoder.embed_positions.weight"),
    *_norm("encoder/norm_embeddings", "model.encoder.layernorm_embedding"),
    *blocks("encoder"),
    Row("decoder/positions", "model.decoder.embed_positions.weight"),
    *_norm("decoder/norm_embeddings", "model.decoder.layernorm_embedding"),
    *blocks("decoder"),
)

HEADS = {
    "classes": (
        ClassifyText,
        bert.deep_classes("classification_head.dense", "classification_head.out_proj"),
    ),
    "span": (Span(), bert.classes("span", "qa_outputs")),
}

FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "d_model",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "heads": "encoder_attention_heads",
    "mlp": "encoder_ffn_dim",
    "max_positions": "max_position_embeddings",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
}
_FIELDS = FIELDS | {"init_scale": "init_std"}


def rows(config: Bart) -> tuple[Row, ...]:
    """The table for this config."""
    return _ROWS


def constants(config: Any) -> dict[str, np.ndarray]:
    """A bias of the logits that is always zero."""
    return {"final_logits_bias": np.zeros((1, config.vocab_size), np.float32)}


def from_hf_config(hf: Mapping[str, Any]) -> Bart:
    """A `Bart` from a config.json. Raises UserError for what our BART does not have."""
    refuse(hf)
    fields.refuse(hf, "scale_embedding", False, why="BART's embeddings are not scaled.")
    return Bart(
        **fields.read(hf, _FIELDS, {"init_std": 0.02}),
        activation=fields.activation(hf, "activation_function", "gelu"),
        norm_epsilon=NORM_EPSILON,
    )


def refuse(hf: Mapping[str, Any]) -> None:
    """UserError for variants that BART and Marian have in common and we have not."""
    fields.refuse(hf, "is_encoder_decoder", True, why="Only the whole model exists here, not one side alone.")
    fields.refuse(hf, "is_decoder", False, why="Only the whole model exists here, not one side alone.")
    for key in ("encoder_layerdrop", "decoder_layerdrop"):
        fields.refuse(hf, key, 0, 0.0, why="There is no dropping of whole layers here.")
    fields.refuse(hf, "normalize_before", False, why="Norms stand after the additions here.")
    fields.refuse(hf, "add_final_layer_norm", False)
    fields.refuse(hf, "tie_word_embeddings", True)
    for side in ("attention_heads", "ffn_dim"):
        encoder, decoder = hf.get(f"encoder_{side}"), hf.get(f"decoder_{side}")
        if encoder != decoder:
            raise UserError(
                f"config.json: encoder_{side}={encoder!r} and decoder_{side}={decoder!r} differ; here both sides "
                "are alike."
            )


def to_hf_config(config: Bart) -> dict[str, Any]:
    """The contents of config.json. Raises UserError for an epsilon that transformers' BART does not have."""
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "bart",
        "architectures": ["BartForConditionalGeneration"],
        "scale_embedding": False,
        **common(config),
    }


def common(config: Any) -> dict[str, Any]:
    """What config.json says of BART and Marian alike, besides FIELDS."""
    if config.norm_epsilon != NORM_EPSILON:
        raise UserError(
            f"norm_epsilon={config.norm_epsilon}: transformers computes this family with {NORM_EPSILON} and has no key "
            f"for it, so its results would differ. Train with norm_epsilon={NORM_EPSILON} to export."
        )
    return {
        "is_encoder_decoder": True,
        "decoder_attention_heads": config.heads,
        "decoder_ffn_dim": config.mlp,
        "activation_function": fields.activation_name(config.activation),
        "tie_word_embeddings": True,
        "forced_eos_token_id": None,  # else an id of transformers' default ends what it generates
    }


def current_name(name: str) -> str:
    """Files of a bare BartModel have no prefix."""
    return f"model.{name}" if name.startswith(("shared.", "encoder.", "decoder.")) else name
