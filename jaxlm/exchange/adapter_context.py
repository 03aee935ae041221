"""Prompts and prefixes of decoders in PEFT's folders: one tensor, `prompt_embeddings`. In: a view's arrays, or a
folder. Out: the other.

PEFT counts the tokens of a prefix as positions and ours have none: its keys are ours, turned by as many positions, so
only models with rotary positions have both. Of encoders PEFT's classifiers read the prompt in place of [CLS]: another
model, which is refused.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.errors import UserError
from jaxlm.formats import safetensors_file
from jaxlm.formats.folder import Folder
from jaxlm.models import rope
from jaxlm.models.beside import Ahead
from jaxlm.models.prompted import Longer
from jaxlm.views import Prompt

CONFIG, TENSORS, TENSOR = "adapter_config.json", "adapter_model.safetensors", "prompt_embeddings"
KINDS = ("PROMPT_TUNING", "PREFIX_TUNING")
_TABLE, _KEYS, _VALUES = "tokens/table", "blocks/attention/wk", "blocks/attention/wv"


def written(view: Any, config: Any, trained: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, Any]]:
    """(the tensor, what the config says of it) of what a Prompt or Prefix has trained, by path."""
    prompt = isinstance(view, Prompt)
    _check(config, "PROMPT_TUNING" if prompt else "PREFIX_TUNING", "This run")
    if len(trained) != (1 if prompt else 2):
        raise UserError(
            f"PEFT holds a {type(view).__name__} alone, and this run trained more: {', '.join(sorted(trained))}. "
            "Fix: use the run itself (--run=RUN)."
        )
    said = {
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": view.tokens,
        "num_layers": config.layers,
        "num_transformer_submodules": 1,
    }
    if prompt:
        sizes = {"token_dim": config.hidden, "num_attention_heads": config.heads}
        return trained[f"{_TABLE}/prompt"], said | sizes | {"peft_type": "PROMPT_TUNING"}
    k_LPKH, v_LPKH = (trained[f"{path}/prefix"] for path in (_KEYS, _VALUES))
    both_PLKH = np.stack([_turned(config, k_LPKH, view.tokens), v_LPKH], axis=1).reshape(
        -1, *k_LPKH.shape[1:]
    )
    flat = both_PLKH.swapaxes(0, 1).reshape(view.tokens, -1)
    sizes = {"token_dim": config.kv_heads * config.head_dim, "num_attention_heads": config.kv_heads}
    return flat, said | sizes | {"peft_type": "PREFIX_TUNING", "prefix_projection": False}


def values(path: str | os.PathLike[str], kind: Any, config: Any) -> dict[str, Callable[[jax.Array], Any]]:
    """What stands in place of which parameters of the base, of a model with this config. {} for another `kind`."""
    if kind not in KINDS:
        return {}
    folder = Folder(os.fspath(path))
    _check(config, kind, str(folder.path))
    tensors = safetensors_file.load(folder.file(TENSORS))
    number, width = (
        tensors[TENSOR].shape if set(tensors) == {TENSOR} and tensors[TENSOR].ndim == 2 else (0, 0)
    )
    wanted = (
        config.hidden if kind == "PROMPT_TUNING" else 2 * config.layers * config.kv_heads * config.head_dim
    )
    if width != wanted:
        raise UserError(
            f"{folder.path} is an adapter for another base: {TENSOR} is {width} wide, and this one takes {wanted}. "
            "Fix: name the one it was trained on with --base=DIR."
        )
    rows = tensors[TENSOR].astype(np.float32)
    if kind == "PROMPT_TUNING":
        return {_TABLE: lambda table: Longer(table, jnp.asarray(rows, table.dtype))}
    each = rows.reshape(number, config.layers, 2, config.kv_heads, config.head_dim)
    k_LPKH, v_LPKH = (each[:, :, i].swapaxes(0, 1) for i in (0, 1))
    own = {_KEYS: _turned(config, k_LPKH, -number), _VALUES: v_LPKH}
    ahead = lambda own: lambda weight: Ahead(weight, jnp.asarray(own, weight.dtype))
    return {path: ahead(x_LPKH) for path, x_LPKH in own.items()}


def _check(config: Any, kind: str, where: str) -> None:
    """UserError unless PEFT's and ours mean the same on such a model."""
    if config.kind != "decoder" or (kind == "PREFIX_TUNING" and not hasattr(config, "rope")):
        takes = "decoders" if kind == "PROMPT_TUNING" else "decoders with rotary positions"
        raise UserError(
            f"{where}: PEFT's {kind} is that of jaxlm on {takes} alone, and this is a {type(config).__name__}. "
            "Fix: use a run itself (--run=RUN), or LoRA."
        )


def _turned(config: Any, k_LPKH: np.ndarray, positions: int) -> np.ndarray:
    """Keys turned by so many positions."""
    places = jnp.full(k_LPKH.shape[:2], positions, jnp.int32)
    cos, sin = config.rope.rotation(places, config.head_dim)
    length = jnp.sqrt(cos**2 + sin**2)  # of stretched rotations
    return np.asarray(rope.rotate(jnp.asarray(k_LPKH, jnp.float32), (cos / length, sin / length)))
