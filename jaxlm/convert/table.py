"""The engine of conversion: one row per weight, applied in both directions.

In: `Row`s (our path, their name, the axes of their array and of ours), a nested dict of shapes or arrays.
Out: the other side. Guaranteed: every array on either side is named by exactly one row, shapes are checked,
values are moved and never computed, so a round trip is bit-identical.

`axes` is written like "(N H) D -> D N H": their axes, then ours; letters in brackets are one axis of
theirs. '{}' in their name is the layer; our array then has the layers stacked in front.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.errors import UserError

_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Row:
    """One weight: `ours` a path like 'blocks/mlp/w_in', `theirs` a name like
    'encoder.layer.{}.dense.weight'.
    """

    ours: str
    theirs: str
    axes: str = ""  # '' keeps the array as it is
    padded: str = ""  # the letter of an axis that is longer on our side, filled with zeros


def to_ours(
    rows: Sequence[Row], tensors: Mapping[str, np.ndarray], shapes: Mapping[str, Any], sizes: dict[str, int]
) -> dict:
    """Our nested dict from their tensors. `shapes` is our abstract tree, `sizes` their length of padded axes.

    Raises UserError that lists missing and unexpected names, or names the array whose shape does not fit.
    """
    ours = flatten(shapes)
    _check_cover(rows, ours)
    names = {row.ours: _names(row, ours[row.ours].shape) for row in rows}
    expected = [name for row in rows for name in names[row.ours]]
    _check_names(expected, tensors)
    flat = {}
    for row in rows:
        shape = tuple(ours[row.ours].shape)
        stacked = "{}" in row.theirs
        pieces = [_forward(row, tensors[name], shape[stacked:], sizes, name) for name in names[row.ours]]
        flat[row.ours] = np.stack(pieces) if stacked else pieces[0]
    return nest(flat)


def to_theirs(rows: Sequence[Row], params: Mapping[str, Any], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Their tensors from our nested dict of arrays."""
    ours = flatten(params)
    _check_cover(rows, ours)
    tensors = {}
    for row in rows:
        array = np.asarray(ours[row.ours])
        layers = array if "{}" in row.theirs else array[None]
        for name, piece in zip(_names(row, array.shape), layers, strict=True):
            tensors[name] = _backward(row, piece, sizes)
    return tensors


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """{'a': {'b': x}} -> {'a/b': x}."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{path}": leaf for path, leaf in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *outer, name = path.split("/")
        inner = tree
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return tree


def _forward(
    row: Row, array: np.ndarray, shape: tuple[int, ...], sizes: dict[str, int], name: str
) -> np.ndarray:
    theirs, ours = _letters(row, len(shape))
    length = dict(zip(ours, shape, strict=True)) | {k: sizes[k] for k in row.padded}
    expected = tuple(math.prod(length[letter] for letter in group) for group in theirs)
    if array.shape != expected:
        raise UserError(
            f"{name}: the checkpoint has shape {array.shape}, the model config says {expected} "
            f"({row.ours} is {shape}). Make the config from the checkpoint's own config.json."
        )
    loose = "".join(theirs)
    array = array.reshape([length[letter] for letter in loose]).transpose([loose.index(k) for k in ours])
    padding = [(0, size - had) for size, had in zip(shape, array.shape, strict=True)]
    return np.pad(array, padding) if any(after for _, after in padding) else np.ascontiguousarray(array)


def _backward(row: Row, array: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
    theirs, ours = _letters(row, array.ndim)
    array = array[tuple(slice(sizes[k] if k in row.padded else None) for k in ours)]
    length = dict(zip(ours, array.shape, strict=True))
    array = array.transpose([ours.index(letter) for group in theirs for letter in group])
    return np.ascontiguousarray(array.reshape([math.prod(length[k] for k in group) for group in theirs]))


def _letters(row: Row, rank: int) -> tuple[list[str], str]:
    """'(N H) D -> D N H' -> (['NH', 'D'], 'DNH')."""
    if not row.axes:
        same = "ABCDEFGH"[:rank] if not row.padded else row.padded
        return list(same), same
    left, right = row.axes.split("->")
    groups, rest = [], left.split()
    while rest:
        if rest[0].startswith("("):
            end = next(i for i, word in enumerate(rest) if word.endswith(")"))
            groups.append("".join(rest[: end + 1]).strip("()"))
            rest = rest[end + 1 :]
        else:
            groups.append(rest.pop(0))
    return groups, "".join(right.split())


def _names(row: Row, shape: Sequence[int]) -> list[str]:
    return [row.theirs.format(i) for i in range(shape[0])] if "{}" in row.theirs else [row.theirs]


def _check_cover(rows: Sequence[Row], ours: Mapping[str, Any]) -> None:
    table = [row.ours for row in rows]
    if sorted(table) != sorted(ours):
        raise ValueError(f"The table and the model name different weights: {sorted(set(table) ^ set(ours))}.")


def _check_names(expected: Sequence[str], found: Mapping[str, Any]) -> None:
    missing = sorted(set(expected) - set(found))
    unexpected = sorted(set(found) - set(expected))
    if missing or unexpected:
        raise UserError(
            f"The checkpoint does not fit the model: {_listed('missing', missing)}; "
            f"{_listed('unexpected', unexpected)}. "
            "Make the config from the checkpoint's own config.json, or pick the architecture that it holds."
        )


def _listed(label: str, names: list[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {label}" + (f" ({', '.join(names[:_SHOWN])}{more})" if names else "")
