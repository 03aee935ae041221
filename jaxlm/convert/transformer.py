"""The Transformer of Vaswani et al. between our parameters and transformers' MarianMTModel, which is the same model.

In: a config.json or a `Transformer`. Out: the other, and the table of weights. Guaranteed: Marian models that are not
it (a bias of the logits, two vocabularies) are refused; sinusoids, which some files hold, are computed here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.convert import bart, fields
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.transformer import Transformer

MODEL_TYPES = ("marian",)
TIED = bart.TIED
IGNORED = (r"model\.(encoder|decoder)\.embed_positions\.weight",)
_ROWS = (bart.TOKENS, *bart.blocks("encoder"), *bart.blocks("decoder"))


def rows(config: Transformer) -> tuple[Row, ...]:
    """The table for this config."""
    return _ROWS


def constants(config: Transformer) -> dict[str, np.ndarray]:
    """A bias of the logits that is always zero."""
    return bart.constants(config)


def from_hf_config(hf: Mapping[str, Any]) -> Transformer:
    """A `Transformer` from a config.json. Raises UserError for what ours does not have."""
    bart.refuse(hf)
    # Absent means false to transformers.
    if fields.value(hf, "scale_embedding", False) is not True:
        raise UserError("config.json: scale_embedding must be true: embeddings are scaled by sqrt(d_model).")
    fields.refuse(hf, "share_encoder_decoder_embeddings", True, why="Source and target share one table.")
    fields.refuse(hf, "decoder_vocab_size", hf.get("vocab_size"), why="Source and target share one table.")
    fields.refuse(hf, "normalize_embedding", False)
    fields.refuse(hf, "static_position_embeddings", True)
    return Transformer(
        **fields.read(hf, bart.FIELDS),
        activation=fields.activation(hf, "activation_function", "gelu"),
        norm_epsilon=bart.NORM_EPSILON,
    )


def to_hf_config(config: Transformer) -> dict[str, Any]:
    """The contents of config.json. Raises UserError for an epsilon that Marian does not have."""
    return {theirs: getattr(config, ours) for ours, theirs in bart.FIELDS.items()} | {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "decoder_vocab_size": config.vocab_size,
        "normalize_before": False,
        "normalize_embedding": False,
        "static_position_embeddings": True,
        **bart.common(config),
    }


def current_name(name: str) -> str:
    """Files of a bare MarianModel have no prefix."""
    return bart.current_name(name)
