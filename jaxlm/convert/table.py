"""The engine of conversion: one row per weight, applied in both directions.

In: `Row`s (our path, their name, the axes of their array and of ours), a source or our arrays. Out: the other side, a
whole parameter or any part of it. Guaranteed: every array on either side is named by the rows exactly once, shapes are
checked, values are moved and never computed, so a round trip is bit-identical.

`axes` is written like "(N H) D -> D N H": their axes, then ours; letters in brackets are one axis of theirs. '{}' in
their name is the layer, a second one the expert; our array then has the layers, and the experts, stacked in front.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.convert.axes import PART, Layout
from jaxlm.errors import UserError
from jaxlm.formats.source import Index, Tensors
from jaxlm.models.paths import flatten

_SHOWN = 8


@dataclasses.dataclass(frozen=True)
class Row:
    """One weight: `ours` a path like 'blocks/mlp/w_in', `theirs` a name like 'encoder.layer.{}.dense.weight'.

    A fused tensor of theirs has several rows, one per part: `part=(i, n)` says that ours is part i of the n along the
    axis called P, e.g. Row("blocks/attention/wk", "h.{}.attn.c_attn.weight", "D (P N H) -> D N H", part=(1, 3)).
    """

    ours: str
    theirs: str
    axes: str = ""  # '' keeps the array as it is
    padded: str = ""  # the letter of an axis that is longer on our side, filled with zeros
    part: tuple[int, int] | None = None
    layers: tuple[int, ...] | None = None  # their numbers of our stacked layers; None: 0, 1, 2, ...

    @property
    def stacked(self) -> int:
        """How many axes of ours stand for numbers in their name: none, the layers, the layers and the experts."""
        return self.theirs.count("{}")

    def names(self, shape: Sequence[int]) -> list[str]:
        """Their names, layer by layer and in it expert by expert."""
        numbers = [range(size) for size in shape[: self.stacked]]
        if self.layers is not None:
            if len(self.layers) != shape[0]:
                raise ValueError(f"{self.ours} has {shape[0]} layers, its row names {len(self.layers)}.")
            numbers = [self.layers, *numbers[1:]]
        return [self.theirs.format(*found) for found in itertools.product(*numbers)]


def layout(row: Row, shape: Sequence[int], sizes: Mapping[str, int]) -> Layout:
    """The layout of one layer of a row. `shape` is ours without the layers, `sizes` their length of padded axes."""
    theirs, ours = letters(row, len(shape))
    index, count = row.part or (0, 1)
    length = dict(zip(ours, shape, strict=True)) | {PART: count} | {k: sizes[k] for k in row.padded}
    return Layout(theirs, ours, length, tuple(shape), index)


def read(
    row: Row,
    source: Tensors,
    shape: Sequence[int],
    sizes: Mapping[str, int],
    index: Index | None = None,
    widen: Callable[[np.ndarray, str], np.ndarray] = lambda array, name: array,
) -> np.ndarray:
    """Our array of a row, or the part of it that `index` says (one slice per axis of ours).

    `widen` is given every tensor as it was read, with its name. One tensor is held besides the result.
    """
    cuts = tuple(slice(None) for _ in shape) if index is None else index
    place = layout(row, shape[row.stacked :], sizes)

    def one(name: str) -> np.ndarray:
        return widen(place.read(functools.partial(source.read, name), cuts[row.stacked :]), name)

    if not row.stacked:
        return one(row.theirs)
    stack = shape[: row.stacked]
    names = np.array(row.names(shape), object).reshape(stack)[cuts[: row.stacked]]
    first = one(names.flat[0]) if names.size else np.zeros(shape[row.stacked :], np.float32)
    made = np.empty((names.size, *first.shape), first.dtype)
    for i, name in enumerate(names.flat):
        made[i] = one(name) if i else first
    return made.reshape(*names.shape, *first.shape)


def to_theirs(
    rows: Sequence[Row], params: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Their tensors from our nested dict of arrays."""
    ours = flatten(params)
    check_cover(rows, ours)
    shapes = their_shapes(rows, ours, sizes)
    dtypes = {
        name: np.asarray(ours[row.ours]).dtype for row in rows for name in row.names(ours[row.ours].shape)
    }
    tensors = {name: np.empty(shape, dtypes[name]) for name, shape in shapes.items()}
    for row in rows:
        write(row, np.asarray(ours[row.ours]), tensors, sizes)
    return tensors


def to_theirs_of(row: Row, array: np.ndarray, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Their tensors of one row that is no part of a fused one, in the order of the row's names."""
    if row.part is not None:
        raise ValueError(f"{row.ours} is a part of {row.theirs}.")
    shapes = their_shapes([row], {row.ours: array}, sizes)
    tensors = {name: np.empty(shape, array.dtype) for name, shape in shapes.items()}
    write(row, array, tensors, sizes)
    return tensors


def write(row: Row, array: np.ndarray, tensors: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
    """Puts our array of a row into the tensors that it is, or is a part of; cast to their dtypes."""
    place = layout(row, array.shape[row.stacked :], sizes)
    pieces = array.reshape(-1, *array.shape[row.stacked :])
    for name, piece in zip(row.names(array.shape), pieces, strict=True):
        place.write(piece, tensors[name])


def their_shapes(
    rows: Sequence[Row], ours: Mapping[str, Any], sizes: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of theirs, from our arrays or their shapes by path."""
    shapes: dict[str, tuple[int, ...]] = {}
    for row in rows:
        shape = tuple(ours[row.ours].shape)
        for name in row.names(shape):
            theirs = layout(row, shape[row.stacked :], sizes).their_shape
            if shapes.setdefault(name, theirs) != theirs:
                raise ValueError(f"The parts of {name} want the shapes {shapes[name]} and {theirs}.")
    return shapes


def difference(
    rows: Sequence[Row], found: Tensors | Mapping[str, Any], ours: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Their names that the rows want and `found` lacks, and those it has besides."""
    expected = {name for row in rows for name in row.names(ours[row.ours].shape)}
    return sorted(expected - set(found)), sorted(set(found) - expected)


def check_cover(rows: Sequence[Row], ours: Mapping[str, Any]) -> None:
    """ValueError (a bug of a table) unless the rows name every array of ours once, and every part of theirs once."""
    paths = [row.ours for row in rows]
    if sorted(paths) != sorted(ours):
        twice = {path for path in paths if paths.count(path) > 1}
        raise ValueError(
            f"The table and the model name different weights: {sorted((set(paths) ^ set(ours)) | twice)}."
        )
    parts: dict[str, list[tuple[int, int] | None]] = {}
    for row in rows:
        for name in row.names(ours[row.ours].shape):
            parts.setdefault(name, []).append(row.part)
    for name, found in parts.items():
        wanted = [None] if None in found else [(i, found[0][1]) for i in range(found[0][1])]  # type: ignore[index]
        if sorted(found, key=str) != sorted(wanted, key=str):
            raise ValueError(f"The table's rows do not make up the whole of {name} once: parts {found}.")


def check_shapes(row: Row, source: Tensors, shape: Sequence[int], sizes: Mapping[str, int]) -> None:
    """UserError naming the first tensor of a row whose shape does not fit."""
    expected = layout(row, shape[row.stacked :], sizes).their_shape
    for name in row.names(shape):
        if name in source and source.shape(name) != expected:
            raise UserError(
                f"{source.where}: {name} has shape {source.shape(name)}, the model config says {expected} "
                f"({row.ours} is {tuple(shape)}). Make the config from the checkpoint's own config.json."
            )


def check_names(missing: Sequence[str], unexpected: Sequence[str], where: str = "The checkpoint") -> None:
    """UserError that lists both, if there are any."""
    if missing or unexpected:
        raise UserError(
            f"{where} does not fit the model: {listed('missing', missing)}; {listed('unexpected', unexpected)}. "
            "Make the config from the checkpoint's own config.json, or pick the architecture that it holds."
        )


def listed(label: str, names: Sequence[str]) -> str:
    """'2 missing (a, b)'."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {label}" + (f" ({', '.join(names[:_SHOWN])}{more})" if names else "")


def letters(row: Row, rank: int) -> tuple[tuple[str, ...], str]:
    """A row's axes, theirs and ours: '(N H) D -> D N H' -> (('NH', 'D'), 'DNH')."""
    if not row.axes:
        same = "ABCDEFGH"[:rank] if not row.padded else row.padded
        return tuple(same), same
    left, right = row.axes.split("->")
    groups, rest = [], left.split()
    while rest:
        if rest[0].startswith("("):
            end = next(i for i, word in enumerate(rest) if word.endswith(")"))
            groups.append("".join(rest[: end + 1]).strip("()"))
            rest = rest[end + 1 :]
        else:
            groups.append(rest.pop(0))
    ours = "".join(right.split())
    if sorted("".join(groups).replace(PART, "")) != sorted(ours) or (PART in "".join(groups)) != bool(
        row.part
    ):
        raise ValueError(
            f"{row.ours}: axes {row.axes!r} with part={row.part} do not name the same letters twice."
        )
    return tuple(groups), ours


def group(letters: str) -> str:
    """How `Row.axes` writes one axis of theirs."""
    return f"({' '.join(letters)})" if len(letters) > 1 else letters
