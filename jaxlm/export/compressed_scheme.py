"""Which weights become compressed-tensors' codes, and how. In: a model with values, its table. Out: a `Scheme`.

Guaranteed: codes and scales are moved, never computed; a weight that a Linear of transformers cannot hold exactly as
codes and scales is refused by name.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.convert import table
from jaxlm.convert.axes import PART
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.exchange.stored import Stored
from jaxlm.models.quantised import Activations, Quantised

_BITS = {"int8": 8, "int4": 4}
_PLAIN = '--config.steps[0].finder="Nearest()"'
_DENSE = (
    "Fix: compress it first: python -m jaxlm.compress --run=RUN --output=small --config=compress_w8a16, or "
    "--config=compress_int4 --text=FILE --config.steps[0].rules[0].low=False."
)
Spec = tuple[tuple[int, ...], np.dtype]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How all of them are held."""

    bits: int
    group: int  # inputs that share a scale; 0: all of an output
    activations: Activations  # of 16 bits are float: what reads it rounds none

    @property
    def packed(self) -> bool:
        """Whether codes share words of 32 bits: wherever activations stay floating, as other engines expect it."""
        return self.activations == "float"

    def specs(self, name: str, shape: tuple[int, ...]) -> dict[str, Spec]:
        """Name -> shape and dtype of what a weight of this name and shape [outputs, inputs] becomes."""
        outputs, inputs = shape
        scale = {f"{name}_scale": ((outputs, inputs // (self.group or inputs)), np.dtype(np.float32))}
        if not self.packed:
            return {name: (shape, np.dtype(np.int8))} | scale
        words = -(-inputs * self.bits // 32)
        return {
            f"{name}_packed": ((outputs, words), np.dtype(np.int32)),
            **scale,
            f"{name}_shape": ((2,), np.dtype(np.int64)),
        }

    def tensors(self, name: str, codes_OI: np.ndarray, scale_OI: np.ndarray) -> dict[str, np.ndarray]:
        """The same with contents; a scale is given for every code."""
        outputs, inputs = codes_OI.shape
        scale_OGI = scale_OI.reshape(outputs, -1, self.group or inputs)
        if (scale_OGI != scale_OGI[..., :1]).any():
            raise ValueError(f"{name}: scales differ within a group.")
        scale = {f"{name}_scale": scale_OGI[..., 0]}
        if not self.packed:
            return {name: codes_OI} | scale
        return {
            f"{name}_packed": packed(codes_OI, self.bits),
            **scale,
            f"{name}_shape": np.array(codes_OI.shape, np.int64),
        }

    def described(self, ignore: Sequence[str]) -> dict[str, Any]:
        """quantization_config of config.json. `ignore`: the modules that stay floating."""
        number = {"num_bits": self.bits, "type": "int", "symmetric": True}
        strategy = {"strategy": "group", "group_size": self.group} if self.group else {"strategy": "channel"}
        tokens = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
        group = {
            "targets": ["Linear"],
            "weights": number | strategy | {"dynamic": False},
            "input_activations": None if self.activations == "float" else tokens,
            "output_activations": None,
        }
        return {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized" if self.packed else "int-quantized",
            "quantization_status": "compressed",
            "config_groups": {"group_0": group},
            "ignore": list(ignore),
            "kv_cache_scheme": None,
        }


def packed(codes_OI: np.ndarray, bits: int) -> np.ndarray:
    """int32 words, the first code in the lowest bits; codes are counted from the lowest, the last word has zeros."""
    outputs, inputs = codes_OI.shape
    each = 32 // bits
    numbers = (codes_OI.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint32)
    words_OWE = np.pad(numbers, ((0, 0), (0, -inputs % each))).reshape(outputs, -1, each)
    shifts_E = np.arange(each, dtype=np.uint32) * bits
    return np.bitwise_or.reduce(words_OWE << shifts_E, axis=-1).view(np.int32)


def of(found: Stored, rows: Sequence[Row], sizes: Mapping[str, int]) -> tuple[Scheme, set[str]]:
    """(how, the names in the table of the tensors that become codes). UserError for what codes cannot say."""
    if not found.compressed:
        raise UserError(f"{found.where} has no compressed weights, which compressed-tensors is for. {_DENSE}")
    values = {row.ours: found.compressed[row.ours] for row in rows if _is_linear(row, found)}
    if not values:
        raise UserError(
            f"{found.where}: no compressed weight is a Linear of transformers ({', '.join(found.compressed)})."
        )
    for path, value in values.items():
        _check(found.where, path, value)
    chosen = [row for row in rows if row.ours in values]
    names = {row.theirs for row in chosen}
    if mixed := [row.ours for row in rows if row.theirs in names and row.ours not in values]:
        raise UserError(
            f"{found.where}: {mixed[0]} is a floating part of a tensor of transformers whose other parts are codes. "
            "Fix: compress all of its parts, or none."
        )
    return _common(found, chosen, values, sizes), names


def _is_linear(row: Row, found: Stored) -> bool:
    """Whether it is compressed, and its tensor [outputs, inputs]; of several experts transformers has no Linear."""
    if row.ours not in found.compressed or row.stacked > 1 or not row.theirs.endswith(".weight"):
        return False
    theirs, ours = table.letters(row, len(found.shapes[row.ours].shape) - row.stacked)
    return len(theirs) == 2 and PART not in theirs[1] and ours.startswith(theirs[1])


def _check(where: str, path: str, value: Any) -> None:
    """UserError for a value that is not codes times scales."""
    if not isinstance(value, Quantised):
        raise UserError(
            f"{where}: what comes into {path} is scaled, or some of its inputs stay floating "
            f"({type(value).__name__}), which compressed-tensors has no place for. Fix: compress with {_PLAIN}."
        )
    if value.low is not None:
        raise UserError(
            f"{where}: {path} has a lowest value of every group (low=True) that is no whole number of steps, and a "
            "zero point of compressed-tensors is one. Fix: compress with --config.steps[0].rules[0].low=False."
        )
    if (kind := value.codes.dtype.name) not in _BITS:
        raise UserError(
            f"{where}: {path} has codes of {kind}; int8 and int4 are written here. "
            'Fix: compress with --config.steps[0].rules[0].kind="int4" or "int8".'
        )


def _common(
    found: Stored, chosen: Sequence[Row], values: Mapping[str, Any], sizes: Mapping[str, int]
) -> Scheme:
    """The one scheme that all have. UserError where there are several."""
    groups, others = set(), set()
    for row in chosen:
        value = values[row.ours]
        shapes = table.their_shapes([row], found.shapes, sizes)
        size = value.codes.size // value.scale.size
        groups.add((size, all(inputs == size for _, inputs in shapes.values())))
        others.add((_BITS[value.codes.dtype.name], "int8" if value.activations == "int8" else "float"))
    whole = all(is_whole for _, is_whole in groups)
    if len(others) > 1 or (not whole and len({size for size, _ in groups}) > 1):
        raise UserError(
            f"{found.where}: its matrices are compressed in several ways (bits, groups or activations), and one goes "
            "into a folder here. Fix: compress all matrices by one rule."
        )
    ((bits, activations),) = others
    return Scheme(bits, 0 if whole else groups.pop()[0], activations)


def rounds(found: Stored) -> bool:
    """Whether anything that comes into a compressed weight is rounded."""
    return any(getattr(value, "activations", "float") == "int8" for value in found.compressed.values())


def spread(value: Any) -> tuple[np.ndarray, np.ndarray]:
    """(codes int8, a scale for every code float32), both of the weight's shape."""
    scale = np.asarray(value.scale, np.float32)
    for axis, (size, blocks) in enumerate(zip(value.shape, scale.shape, strict=True)):
        scale = np.repeat(scale, size // blocks, axis)
    return np.asarray(jax.device_get(value.codes.astype(jnp.int8))), scale
