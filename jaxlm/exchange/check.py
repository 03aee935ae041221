"""Do two folders hold the same model? In: two of run folder, model folder, Hugging Face folder. Out: what differs.

Tensors are compared first, by transformers' names, then the outputs on a fixed batch: ours against transformers' where
it is installed and the other side is a Hugging Face folder. When outputs differ, both sides are cut to their first k
layers, by bisection, until the first layer that differs is known; that needs no hooks into either implementation.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.convert import families, table
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.exchange import bases, model_folder, stored
from jaxlm.exchange.stored import HF, Stored
from jaxlm.models.build import build
from jaxlm.models.paths import flatten, nest

TOLERANCE = 1e-4  # of the largest output
_ROWS, _LENGTH = 2, 13
_DEPTH = {
    "layers": "num_hidden_layers"
}  # our field -> theirs; families with two stacks are compared as a whole
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome: `same`, and one line per comparison."""

    same: bool
    lines: tuple[str, ...]


def compare(a: str, b: str, *, allow_pickle: Any = "refuse", base: str = "") -> Finding:
    """Compares two folders. UserError when one cannot be read, or they are of different families."""
    left, right = (_open(name, allow_pickle, base) for name in (a, b))
    if type(left.config) is not type(right.config):
        raise UserError(
            f"{a} is a {type(left.config).__name__}, {b} a {type(right.config).__name__}: nothing to compare."
        )
    lines = [_fields(left.config, right.config)]
    tensors, line = _tensors(left, right)
    lines.append(line)
    outputs, more = _outputs(left, right)
    return Finding(tensors and outputs and lines[0].startswith("config: same"), tuple(lines + more))


def _open(name: str, allow_pickle: Any, base: str) -> Stored:
    """A folder of any kind; of a run, the best step."""
    path = expanded(name.removeprefix(HF))
    if stored.is_ours(path):
        step = None if model_folder.is_one(path) else stored.best_step(path)
        return bases.merged(stored.open_stored(str(path), say=print, step=step), base)
    return stored.of_hf(name.removeprefix(HF), allow_pickle=allow_pickle)


# How a model is run and trained, and how its weights began: no function of the weights, and not in every config.json.
_NO_FUNCTION = (
    *("layer_loop", "remat", "stage_repeats", "attention", "init_scale", "init_factor", "position_init"),
    *("balance_loss", "router_z_loss"),
)


def _fields(a: Any, b: Any) -> str:
    differ = [
        f"{field.name} {getattr(a, field.name)!r} and {getattr(b, field.name)!r}"
        for field in dataclasses.fields(a)
        if field.name not in _NO_FUNCTION and getattr(a, field.name) != getattr(b, field.name)
    ]
    return "config: same" if not differ else f"config: differs in {'; '.join(differ)}"


def _tensors(a: Stored, b: Stored) -> tuple[bool, str]:
    """Whether all parameters are the same, and the first that is not, under transformers' name."""
    if only := sorted(set(a.shapes) ^ set(b.shapes)):
        return False, f"tensors: {table.listed('on one side only', only)}"
    rows = families.rows(a.config, a.heads)
    worst, close = 0.0, True
    for row in rows:
        left, right = a.host(row.ours), b.host(row.ours)
        if left.shape != right.shape:
            return False, f"tensors: {row.theirs} is {left.shape} and {right.shape} (in our layout)"
        difference = np.abs(left - right)
        if not np.array_equal(left, right):
            at = np.unravel_index(int(np.nanargmax(difference)), left.shape)
            stack = left.shape[: row.stacked]
            place = np.ravel_multi_index(at[: row.stacked], stack) if stack else 0
            name = row.names(left.shape)[place]
            worst, close = float(difference.max()), False
            return close, f"tensors: {name} differs first, by up to {worst:.3g}"
    return True, f"tensors: {len(rows)} parameters the same to the bit"


def _outputs(a: Stored, b: Stored) -> tuple[bool, list[str]]:
    """Ours of both sides, and transformers' of a Hugging Face folder."""
    lines, same = [], True
    ours = _ours(a, _layers(a.config))
    other = _ours(b, _layers(b.config))
    found = _difference(ours, other)
    same &= found <= TOLERANCE
    lines.append(f"outputs: ours of both differ by {found:.2e} of the largest")
    for side in (a, b):
        if side.hf is None or side.hf.kind != "safetensors":
            continue
        try:
            from transformers.utils import logging  # its bars and tables of tensors would bury the result
        except ImportError:
            lines.append("outputs: transformers is not installed, so its outputs are not compared")
            break
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        whole = _layers(side.config)
        found = _difference(_ours(side, whole), _theirs(side, whole))
        lines.append(f"outputs: ours and transformers' of {side.where} differ by {found:.2e} of the largest")
        if found > TOLERANCE:
            same = False
            lines.append(_first_layer(side))
    return same, lines


def _first_layer(side: Stored) -> str:
    """The first layer at which ours and transformers' part."""
    low, high = 0, _layers(side.config)  # of `low` layers they agree
    if "layers" not in {field.name for field in dataclasses.fields(side.config)}:
        return "  this family has two stacks; layers are not told apart"
    if _difference(_ours(side, 0), _theirs(side, 0)) > TOLERANCE:
        return "  they differ before the first layer: the embeddings, or what stands behind the last layer"
    while high - low > 1:
        middle = (low + high) // 2
        if _difference(_ours(side, middle), _theirs(side, middle)) > TOLERANCE:
            high = middle
        else:
            low = middle
    return f"  they differ first at layer {high - 1} (counted from 0)"


def _layers(config: Any) -> int:
    return getattr(config, "layers", 0)


def _batch(config: Any) -> Batch:
    """Two full rows; both sides of an encoder-decoder are the same length."""
    rng = np.random.default_rng(0)
    tokens_BT = rng.integers(0, config.vocab_size, (_ROWS, _LENGTH)).astype(np.int32)
    return Batch.full(tokens_BT, tokens_BT[:, ::-1].copy())


def _ours(side: Stored, layers: int) -> np.ndarray:
    """Features of the last layer, of the first `layers` layers."""
    config, batch = side.config, _batch(side.config)
    model = build(_cut(config, layers))
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    axes = flatten(model.axes)
    params = {
        path: array[:layers] if _layers(config) and "layers" in axes[path] else array
        for path, array in side.place(dict.fromkeys(axes, here)).items()
    }
    return np.asarray(jax.jit(lambda p: model.bind(p).encode(batch, None).x_BTD)(nest(params)), np.float32)


def _theirs(side: Stored, layers: int) -> np.ndarray:
    """The same of transformers."""
    import torch
    import transformers

    assert side.hf is not None
    hf = transformers.AutoConfig.from_pretrained(side.hf.folder.path)
    for ours, theirs in _DEPTH.items():
        if getattr(side.config, ours, layers) != layers:
            setattr(hf, theirs, layers)
    batch = _batch(side.config)
    model = transformers.AutoModel.from_pretrained(side.hf.folder.path, config=hf, dtype=torch.float32).eval()
    arguments: Mapping[str, Any] = {"input_ids": torch.tensor(batch.tokens_BT).long()}
    if hf.is_encoder_decoder:
        arguments = {
            "input_ids": torch.tensor(batch.source_tokens_BS).long(),
            "decoder_input_ids": torch.tensor(batch.tokens_BT).long(),
        }
    with torch.no_grad():
        return model(**arguments).last_hidden_state.numpy()


def _cut(config: Any, layers: int) -> Any:
    return dataclasses.replace(config, layers=layers) if _layers(config) not in (0, layers) else config


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """Of the largest entry; NaN counts as all."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-9))
