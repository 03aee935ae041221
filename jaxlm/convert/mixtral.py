"""Mixtral between our parameters and transformers' Mixtral for causal LM.

In: a config.json or a `Mixtral`. Out: the other, and the table of weights, which is Llama's with experts. Files hold
the matrices of every expert apart (transformers fuses them, in memory only); ours have the experts in front. The weight
of the balance is router_aux_loss_coef. output_router_logits, with which transformers adds it to its loss, is neither
read nor written: its generation fails with it (5.24).
"""

import collections
from collections.abc import Mapping
from typing import Any

from jaxlm.convert import fields, llama
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.models.mixtral import Mixtral

MODEL_TYPES = ("mixtral",)
TIED, IGNORED, HEADS = llama.TIED, llama.IGNORED, llama.HEADS
current_name, fitted = llama.current_name, llama.fitted

_MOE = "model.layers.{}.block_sparse_moe."
_EXPERTS = (
    Row("blocks/experts/router", _MOE + "gate.weight", "E D -> D E"),
    Row("blocks/experts/w_gate", _MOE + "experts.{}.w1.weight", "F D -> D F"),
    Row("blocks/experts/w_in", _MOE + "experts.{}.w3.weight", "F D -> D F"),
    Row("blocks/experts/w_out", _MOE + "experts.{}.w2.weight", "D F -> F D"),
)
# What transformers takes where a key is absent, and takes otherwise of Mistral.
_ABSENT: Mapping[str, Any] = {"sliding_window": None, "rope_theta": 1e6}


def rows(config: Mixtral) -> tuple[Row, ...]:
    """The table for this config."""
    return tuple(row for row in llama.rows(config) if not row.ours.startswith("blocks/mlp/")) + _EXPERTS


def from_hf_config(hf: Mapping[str, Any]) -> Mixtral:
    """A `Mixtral` from a config.json. Raises UserError for what ours does not have."""
    fields.refuse(hf, "router_jitter_noise", 0, 0.0, why="Our router adds no noise.")
    return Mixtral(
        **llama.arguments("mistral", collections.ChainMap(hf, _ABSENT)),  # type: ignore[arg-type]
        experts=fields.number(hf, "num_local_experts", int, 8),
        experts_per_token=fields.number(hf, "num_experts_per_tok", int, 2),
        balance_loss=fields.number(hf, "router_aux_loss_coef", float, 0.001),
        router_z_loss=0.0,
    )


def to_hf_config(config: Mixtral) -> dict[str, Any]:
    """The contents of config.json. Raises UserError for a config that transformers' Mixtral does not have."""
    windows = set(config.windows)
    if (config.biases, config.qk_norm, len(windows)) != ("none", "none", 1):
        raise UserError(
            f"transformers' Mixtral has no biases, no QK norm and one window for all layers, and this one has "
            f"biases={config.biases!r}, qk_norm={config.qk_norm!r}, windows={config.windows}."
        )
    hf = llama.to_hf_config(config) | {
        "model_type": "mixtral",
        "architectures": ["MixtralForCausalLM"],
        "sliding_window": windows.pop() or None,
        "num_local_experts": config.experts,
        "num_experts_per_tok": config.experts_per_token,
        "router_aux_loss_coef": config.balance_loss,
    }
    hf.pop("attention_bias", None)
    return hf
