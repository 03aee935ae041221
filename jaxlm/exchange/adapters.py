"""What an adapter adds to a base, to stand beside those of others. In: a run with LoRA, or a PEFT folder, and the base.
Out: a `Part`.

LoRA (also scaled by the root of the rank) and AdaLoRA on matrices of attention and MLP, and whole heads. Guaranteed: an
adapter for another base is refused, and one that trained what would not stand here.
"""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxlm.convert import table
from jaxlm.convert.table import Row
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.exchange import adapter_own, adapter_reading, bases, stored
from jaxlm.formats.source import of_arrays
from jaxlm.models.build import build
from jaxlm.models.low_rank import LowRank
from jaxlm.models.paths import flatten
from jaxlm.models.values import Value, whole
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import SPLIT
from jaxlm.views.beside import MATRICES

HEADS = "heads/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One adapter."""

    stored: stored.Stored  # the model that it makes of the base
    # by path: a [in ..., rank], b [rank, out ...], with its scale
    thin: Mapping[str, tuple[np.ndarray, np.ndarray]]
    heads: Mapping[str, np.ndarray]  # by path, whole


def opened(where: str, base: str, say: Callable[[str], None]) -> Part:
    """A run folder, or a PEFT folder as DIR or hf:DIR. UserError for what cannot stand beside others."""
    path = where.removeprefix(stored.HF)
    about = adapter_reading.about(path)
    if about and about.get("peft_type") == adapter_own.KIND:
        raise _refused(where, "it holds more, or other, than the matrices of LoRA")
    if about is not None:
        return _of_peft(path, about, base)
    if not stored.is_ours(expanded(path)) or where != path:
        raise UserError(f"{where}: no adapter: a run with a view, or a folder with {adapter_reading.CONFIG}.")
    return _of_run(path, base, say)


def _of_run(path: str, base: str, say: Callable[[str], None]) -> Part:
    found = stored.open_stored(path, say=say, step=stored.best_step(expanded(path)))
    if found.run is None or not found.run.view:
        raise _refused(found.where, "it was trained without a view, which changes every weight")
    if any(getattr(view, "frozen", "float32") != "float32" for view in found.run.view):
        raise _refused(found.where, "its frozen weights were held in fewer bits than those of others")
    program, trained, rest = bases.opened(found, base, meshes.local(SPLIT))
    merged, thin, heads = flatten(program.view.merge(trained, rest)), {}, {}
    for name, weight in jax.device_get(merged).items():
        if name.startswith(HEADS):
            heads[name] = np.asarray(whole(weight), np.float32)
        elif isinstance(weight, LowRank):
            thin[name] = (np.asarray(weight.a), weight.scale * np.asarray(weight.b))
        elif isinstance(weight, Value) or name in flatten(trained):
            raise _refused(found.where, f"it trained {name} otherwise than by LoRA")
    return Part(stored=bases.merged(found, base), thin=_checked(found.where, thin), heads=heads)


def _of_peft(path: str, config: Mapping[str, Any], base: str) -> Part:
    found = stored.of_hf(path, base=base)
    _, adapter = adapter_reading.opened(path, config, base)
    if adapter is None:
        raise _refused(path, "a prompt or a prefix stands in front of its texts")
    plan, thin, acts = found.plan, {}, {}
    assert plan is not None
    for name in adapter.parts:
        if (two := adapter.thin(name)) is None:
            raise _refused(path, f"it acts on {name} otherwise than by LoRA")
        acts[name] = two
    inputs = flatten(build(found.config, found.heads).inputs)
    for name, row in plan.rows.items():
        names = row.names(plan.shapes[name].shape)
        if name.startswith(HEADS):
            continue
        if {*names} & {*adapter.saved}:
            raise _refused(path, f"it holds {name} whole")
        if {*names} & {*acts}:
            thin[name] = _ours(row, plan, acts, inputs[name])
    heads = {name: plan.read(name) for name in plan.rows if name.startswith(HEADS)}
    return Part(stored=found, thin=_checked(path, thin), heads=heads)


def _ours(row: Row, plan: Any, acts: Mapping[str, tuple[np.ndarray, np.ndarray]], inputs: int) -> Any:
    """(a, b) in the layout of our weight; a layer without its own has zeros, and so have the ranks that one lacks."""
    shape = tuple(plan.shapes[row.ours].shape)
    groups, ours = table.letters(row, len(shape) - row.stacked)
    inner, outer = ours[:inputs], ours[inputs:]
    theirs = next(group for group in groups if {*outer} <= {*group})
    names = row.names(shape)
    rank = max(acts[name][0].shape[0] for name in names if name in acts)
    some_a, some_b = next(acts[name] for name in names if name in acts)
    empty = (np.zeros((0, some_a.shape[1]), np.float32), np.zeros((some_b.shape[0], 0), np.float32))
    pairs = [acts.get(name, empty) for name in names]
    more = [rank - a.shape[0] for a, _ in pairs]
    all_a = {n: np.pad(a, ((0, m), (0, 0))) for n, (a, _), m in zip(names, pairs, more, strict=True)}
    all_b = {n: np.pad(b, ((0, 0), (0, m))) for n, (_, b), m in zip(names, pairs, more, strict=True)}
    stack, sizes = shape[: row.stacked], shape[row.stacked :]
    row_a = dataclasses.replace(row, axes=f"R {table.group(inner)} -> {' '.join(inner)} R", part=None)
    row_b = dataclasses.replace(row, axes=f"{table.group(theirs)} R -> R {' '.join(outer)}")
    a = table.read(row_a, of_arrays(all_a), (*stack, *sizes[:inputs], rank), plan.sizes)
    return a, table.read(row_b, of_arrays(all_b), (*stack, rank, *sizes[inputs:]), plan.sizes)


def _checked(where: str, thin: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in thin:
        if not re.match(MATRICES, name):
            raise _refused(where, f"it acts on {name}, which is no matrix of attention or MLP")
    return thin


def _refused(where: str | os.PathLike[str], why: str) -> UserError:
    return UserError(
        f"{where} cannot stand beside other adapters: {why}. Fix: load it alone (--run={where}), or train LoRA."
    )
