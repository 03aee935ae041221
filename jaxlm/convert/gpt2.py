"""GPT-2 between our parameters and transformers' GPT2LMHeadModel.

In: a config.json or a `Gpt2`. Out: the other, and the table of weights. Guaranteed: names with and without the prefix
"transformer." are understood (the original files have none), causal masks that files hold as buffers are dropped.
"""

from collections.abc import Mapping
from typing import Any

from jaxlm.convert import bert, fields
from jaxlm.convert.table import Row
from jaxlm.models.gpt2 import Gpt2
from jaxlm.models.heads import ClassifyText, Tag

MODEL_TYPES = ("gpt2",)
TIED: Mapping[str, str] = {"lm_head.weight": "transformer.wte.weight"}
IGNORED = (r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",)

_LAYER = "transformer.h.{}."


def _fused(role: str, part: int) -> tuple[Row, Row]:
    """One of queries, keys, values: a third of c_attn, which is [in, out] (a Conv1D), unlike a Linear."""
    theirs = _LAYER + "attn.c_attn."
    return (
        Row(f"blocks/attention/w{role}", theirs + "weight", "D (P N H) -> D N H", part=(part, 3)),
        Row(f"blocks/attention/b{role}", theirs + "bias", "(P N H) -> N H", part=(part, 3)),
    )


_ROWS = (
    Row("tokens/table", "transformer.wte.weight", "V D -> V D", padded="V"),
    Row("positions", "transformer.wpe.weight"),
    Row("blocks/norm_attention/scale", _LAYER + "ln_1.weight"),
    Row("blocks/norm_attention/bias", _LAYER + "ln_1.bias"),
    *_fused("q", 0),
    *_fused("k", 1),
    *_fused("v", 2),
    Row("blocks/attention/wo", _LAYER + "attn.c_proj.weight", "(N H) D -> N H D"),
    Row("blocks/attention/bo", _LAYER + "attn.c_proj.bias"),
    Row("blocks/norm_mlp/scale", _LAYER + "ln_2.weight"),
    Row("blocks/norm_mlp/bias", _LAYER + "ln_2.bias"),
    Row("blocks/mlp/w_in", _LAYER + "mlp.c_fc.weight"),
    Row("blocks/mlp/b_in", _LAYER + "mlp.c_fc.bias"),
    Row("blocks/mlp/w_out", _LAYER + "mlp.c_proj.weight"),
    Row("blocks/mlp/b_out", _LAYER + "mlp.c_proj.bias"),
    Row("norm/scale", "transformer.ln_f.weight"),
    Row("norm/bias", "transformer.ln_f.bias"),
)

HEADS = {
    "classes": (ClassifyText, (Row("heads/classes/w", "score.weight", "C D -> D C"),)),
    "tags": (Tag, bert.classes("tags", "classifier")),
}

_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden": "n_embd",
    "layers": "n_layer",
    "heads": "n_head",
    "max_positions": "n_positions",
    "embedding_dropout": "embd_pdrop",
    "dropout": "resid_pdrop",
    "attention_dropout": "attn_pdrop",
    "norm_epsilon": "layer_norm_epsilon",
    "init_scale": "initializer_range",
}
_DEFAULTS = {
    "embd_pdrop": 0.1,
    "resid_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
}


def rows(config: Gpt2) -> tuple[Row, ...]:
    """The table, the same for every config."""
    return _ROWS


def current_name(name: str) -> str:
    """With the prefix of the model inside GPT2LMHeadModel, which a bare GPT2Model's names lack."""
    whole = name.startswith(("transformer.", "lm_head.", "score.", "classifier."))
    return name if whole else f"transformer.{name}"


def from_hf_config(hf: Mapping[str, Any]) -> Gpt2:
    """A `Gpt2` from a config.json. Raises UserError for what our GPT-2 does not have."""
    fields.refuse(hf, "scale_attn_weights", True, why="Our scores are always divided by sqrt(head width).")
    fields.refuse(hf, "scale_attn_by_inverse_layer_idx", False, why="Our layers all scale scores alike.")
    fields.refuse(hf, "add_cross_attention", False, why="Our GPT-2 is a decoder without an encoder.")
    fields.refuse(hf, "tie_word_embeddings", True, why="Our GPT-2 predicts with the table of its embeddings.")
    # reorder_and_upcast_attn says where float16 is rounded; our scores are float32 in any case.
    return Gpt2(
        **fields.read(hf, _FIELDS, _DEFAULTS),
        mlp=fields.number(hf, "n_inner", int, 4 * fields.number(hf, "n_embd", int)),
        activation=fields.activation(hf, "activation_function", "gelu_new"),
    )


def to_hf_config(config: Gpt2) -> dict[str, Any]:
    """The contents of config.json."""
    return {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()} | {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_inner": config.mlp,
        "activation_function": fields.activation_name(config.activation),
        "tie_word_embeddings": True,
    }
