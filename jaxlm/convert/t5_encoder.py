"""T5's encoder between our parameters and transformers' T5EncoderModel, and T5ForTokenClassification with its head.

In: a config.json that says is_encoder_decoder=false, or a `T5Encoder`. Out: the other, and the table of weights, a part
of T5's.
"""

from collections.abc import Mapping
from typing import Any

from jaxlm.convert import bert, t5
from jaxlm.convert.table import Row
from jaxlm.models.heads import Tag
from jaxlm.models.t5_encoder import T5Encoder

MODEL_TYPES = t5.MODEL_TYPES
TIED = {"encoder.embed_tokens.weight": "shared.weight"}
IGNORED: tuple[str, ...] = ()
INSIDE = {"tags": "transformer."}
current_name = t5.current_name
HEADS = {"tags": (Tag, bert.classes("tags"))}


def rows(config: T5Encoder) -> tuple[Row, ...]:
    """The table for this config."""
    return (t5.TOKENS, *t5.stack("encoder", config.gate == "gated"))


def from_hf_config(hf: Mapping[str, Any]) -> T5Encoder:
    """A `T5Encoder` from a config.json. Raises UserError for what it does not have."""
    return T5Encoder(**t5.encoder(hf))


def to_hf_config(config: T5Encoder) -> dict[str, Any]:
    """The contents of config.json."""
    return t5.sizes(config) | {
        "architectures": ["T5EncoderModel"],
        "is_encoder_decoder": False,
        "num_decoder_layers": config.encoder_layers,  # there is none, and transformers writes so many
    }
