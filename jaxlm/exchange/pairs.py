"""Models that are two of transformers' (ELECTRA: discriminator and generator). In: one `Stored`. Out: one per part.

A family whose configs are such pairs has `PARTS`, the names of their fields and folders and of the head of each,
`pair_path`, where the pair has a parameter of a part, and `together`, the pair of two parts.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxlm.convert import families, table
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.exchange.stored import FLOAT32, HF, Stored, of_hf, open_stored
from jaxlm.models.build import build
from jaxlm.models.heads import Head
from jaxlm.models.paths import flatten, nest


def apart(found: Stored) -> dict[str, Stored]:
    """{folder: part} of a pair, and {'': found} of everything else."""
    family: Any = families.of_config(found.config)
    names = getattr(family, "PARTS", {})
    if not names or not all(hasattr(found.config, name) for name in names):
        return {"": found}
    return {
        name: _part(found, name, {head: found.heads[head]}, family.pair_path) for name, head in names.items()
    }


def _part(found: Stored, name: str, heads: Mapping[str, Head], pair_path: Any) -> Stored:
    config = getattr(found.config, name)
    paths = {path: pair_path(name, path) for path in flatten(build(config, heads).shapes)}

    def place(wanted: Mapping[str, jax.sharding.Sharding], dtype: np.dtype = FLOAT32) -> dict[str, jax.Array]:
        arrays = found.place({paths[path]: where for path, where in wanted.items()}, dtype)
        return {path: arrays[paths[path]] for path in wanted}

    shapes = {path: found.shapes[pair] for path, pair in paths.items()}
    return dataclasses.replace(found, config=config, heads=heads, shapes=shapes, place=place)


def open_any(name: str, *, say: Callable[[str], None]) -> Stored:
    """As `open_stored`; `hf:DIR` may also be the folder of a pair."""
    path = expanded(name.removeprefix(HF))
    if name.startswith(HF) and is_pair(path):
        return of_folders(path)
    return open_stored(name, say=say)


def is_pair(path: pathlib.Path) -> bool:
    """Whether a folder holds the folders of a pair."""
    return all((path / name / "config.json").is_file() for name in ("discriminator", "generator"))


def of_folders(path: pathlib.Path) -> Stored:
    """The pair in two folders. UserError when one is incomplete, or they do not fit together."""
    sides = {name: of_hf(path / name) for name in ("discriminator", "generator")}
    family: Any = families.of_config(sides["discriminator"].config)
    for side in sides.values():
        table.check_names(side.missing, side.unexpected, side.where)
        if not hasattr(family, "together") or families.of_config(side.config) is not family:
            raise UserError(f"{path}: {', '.join(sides)} are not the two models of a pair.")
    config, params = family.together(*((side.config, nest(dict(side.hosts()))) for side in sides.values()))
    flat: dict[str, np.ndarray] = flatten(params)

    def place(wanted: Mapping[str, jax.sharding.Sharding], dtype: np.dtype = FLOAT32) -> dict[str, jax.Array]:
        return {name: jax.device_put(flat[name].astype(dtype), where) for name, where in wanted.items()}

    first = sides["discriminator"]
    return dataclasses.replace(
        first,
        where=str(path),
        config=config,
        heads={name: head for side in sides.values() for name, head in side.heads.items()},
        shapes=flat,
        place=place,
        hf=None,
        plan=None,
    )
