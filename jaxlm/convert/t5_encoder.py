"""T5's encoder between our parameters and transformers' T5EncoderModel, and T5ForTokenClassification with its head.

In: a config.json that says is_encoder_decoder=false, or a `T5Encoder`. Out: the other, and the table of weights, a part
of T5's.
"""

from collections.abc import Mapping
from typing import Any

from jaxlm.convert import bert, fields, t5
from jaxlm.convert.table import Row
from jaxlm.models.heads import Tag
from jaxlm.models.t5_encoder import T5Encoder

MODEL_TYPES = t5.MODEL_TYPES
TIED = {"encoder.embed_tokens.weight": "shared.weight"}
IGNORED: tuple[str, ...] = ()
INSIDE = {"tags": "transformer."}
HEADS = {"tags": (Tag, bert.classes("tags"))}


def rows(config: T5Encoder) -> tuple[Row, ...]:
    """The table for this config."""
    return (t5.TOKENS, *t5.stack("encoder", config.gate == "gated"))


def current_name(name: str) -> str:
    """Names never changed; a T5ForTokenClassification has its encoder within."""
    return t5.current_name(name)


def from_hf_config(hf: Mapping[str, Any]) -> T5Encoder:
    """A `T5Encoder` from a config.json. Raises UserError for what it does not have."""
    fields.refuse(
        hf, "is_decoder", False, why="Only the whole T5 and its encoder exist here, no decoder alone."
    )
    return T5Encoder(**fields.read(hf, t5.FIELDS, t5.DEFAULTS), **t5.mlp(hf))


def to_hf_config(config: T5Encoder) -> dict[str, Any]:
    """The contents of config.json."""
    return t5.sizes(config) | {
        "architectures": ["T5EncoderModel"],
        "is_encoder_decoder": False,
        "num_decoder_layers": config.encoder_layers,  # there is none, and transformers writes so many
    }
