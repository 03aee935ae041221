"""What of a source's tensors are weights. In: a source, a family. Out: the weights under their present names.

Guaranteed: buffers are known by their names; a tied copy has the bits of its original and a constant its values, or the
checkpoint is refused.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlm.errors import UserError
from jaxlm.formats.source import Tensors


def entries(
    family: Any, source: Tensors, expected: set[str]
) -> tuple[Tensors, tuple[str, ...], dict[str, str]]:
    """The source under present names, without buffers and copies; and those two."""
    kept, buffers, stored = {}, [], {}
    for name, entry in source.entries.items():
        now = family.current_name(name)
        if now not in expected and any(re.fullmatch(pattern, now) for pattern in family.IGNORED):
            buffers.append(name)
        elif now in kept:
            raise UserError(f"{source.where}: {name} and {stored[now]} are both {now} in today's names.")
        else:
            kept[now], stored[now] = entry, name
    found, copies = Tensors(kept, source.where), {}
    for copy, original in family.TIED.items():
        if copy in expected or copy not in kept:
            continue
        if original in kept:
            _check_copy(found, copy, original)
            copies[stored[copy]] = original
        else:
            kept[original] = kept[copy]
        del kept[copy]
    return found, tuple(buffers), copies


def without(source: Tensors, constants: Mapping[str, np.ndarray]) -> tuple[Tensors, set[str]]:
    """The source without the constants in it, which must have their values; and the names of those."""
    found = {name for name in constants if name in source}
    for name in found:
        if source.shape(name) != constants[name].shape or not np.array_equal(
            source.read(name), constants[name]
        ):
            raise UserError(
                f"{source.where}: {name} is not what it is in all models of this family here (shape "
                f"{constants[name].shape}, from {constants[name].min():g} to {constants[name].max():g}), so this "
                "checkpoint cannot be held."
            )
    left = {name: entry for name, entry in source.entries.items() if name not in found}
    return Tensors(left, source.where), found


def _check_copy(source: Tensors, copy: str, original: str) -> None:
    if source.shape(copy) == source.shape(original) and np.array_equal(
        source.read(copy), source.read(original)
    ):
        return
    raise UserError(
        f"{source.where}: {copy} differs from {original}: they are one weight in this model (tied), so this "
        "checkpoint cannot be held."
    )
