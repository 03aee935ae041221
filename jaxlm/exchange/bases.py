"""What a run's view leaves as it is: where it comes from, and whether it is still the same. In: a Program. Out: arrays.

Frozen weights are not saved: a checkpoint holds their source and fingerprint. Guaranteed: a base that changed is
refused by its fingerprint, whatever mesh it lies on.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.config import Run
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import starting, tokenizer_files
from jaxlm.exchange.stored import FLOAT32, Stored
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import is_value, plain
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import SPLIT, Mesh
from jaxlm.run.program import Program

Say = Callable[[str], None]
_FIX = "Fix: name the right one, with --config.init_from=DIR in training and --base=DIR in other commands."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """Of a run: what `init_from` names, or the weights that its seed draws."""

    source: str
    fingerprint: str = ""  # of the frozen weights; empty: there are none

    @classmethod
    def of(cls, run: Run) -> "Base":
        """Before anything is read."""
        return cls(source=run.init_from or f"seed {run.seed}")

    def seen(self, frozen: Any) -> "Base":
        """With the fingerprint of these."""
        return dataclasses.replace(self, fingerprint=fingerprint(frozen) if jax.tree.leaves(frozen) else "")

    def check(self, saved: dict[str, str] | None, where: str) -> "Base":
        """UserError unless these are the weights that were trained with."""
        if saved is not None and saved["fingerprint"] != self.fingerprint:
            raise UserError(
                f"{_trained_on(saved, where)}; {self.source} is another base (fingerprint "
                f"{self.fingerprint[:12] or 'of nothing'}). {_FIX}"
            )
        return self


def _trained_on(saved: dict[str, str], where: str) -> str:
    return f"{where} was trained on top of {saved['source']} (fingerprint {saved['fingerprint'][:12]})"


def parameters(program: Program, tokenizer: Tokenizer, say: Say) -> Any:
    """What a run starts with: drawn from its seed, or read from `init_from`. UserError when that does not fit."""
    fresh = program.parameters()
    run = program.run
    if not run.init_from:
        return fresh
    trained = program.state.params if run.view else None
    return starting.params(run, program.model, fresh, program.params, tokenizer, say, trained)


def frozen(
    program: Program, tokenizer: Tokenizer, saved: dict[str, str] | None, where: str, say: Say
) -> tuple[Any, Base]:
    """What a view leaves as it is, made again for a checkpoint (`where`) on top of `saved`; {} without a view.

    UserError when it cannot be read, or is not the same.
    """
    base = Base.of(program.run)
    if not program.run.view:
        return {}, base.check(saved, where)
    try:
        rest = program.split(parameters(program, tokenizer, say))[1]
    except UserError as error:
        if saved is None:
            raise
        raise UserError(f"{_trained_on(saved, where)}, which cannot be read. {error} {_FIX}") from error
    return rest, base.seen(rest).check(saved, where)


def opened(found: Stored, base: str, mesh: jax.sharding.Mesh) -> tuple[Program, Any, Any]:
    """(program, trained, frozen) of a checkpoint of a run, its weights on the mesh.

    `base`: where the frozen weights are now, if not where the run read them. UserError when they are not the same.
    """
    assert found.run is not None
    init_from = base or found.run.init_from  # its teacher is not needed any more
    run = dataclasses.replace(found.run, init_from=init_from, teacher="", teacher_model=None)
    program = Program.of(run, mesh)
    tokenizer = tokenizer_files.open_files(found.tokenizer, found.where)
    # What training says of its start was said then.
    rest, _ = frozen(program, tokenizer, found.meta.get("base"), found.where, lambda line: None)
    where = {path: leaf.sharding for path, leaf in flatten(program.state.params).items()}
    return program, nest(found.place(where)), rest


def merged(found: Stored, base: str, mesh: Mesh = SPLIT) -> Stored:
    """A checkpoint of a run with a view as the plain model it stands for, on this host; anything else as it is.

    What no weight can hold, such as a bottleneck, stays beside the weight it stands at. `base` and UserError as in
    `opened`.
    """
    if found.run is None or not found.run.view:
        return found
    program, trained, rest = opened(found, base, meshes.local(mesh))
    params = flatten(plain(program.view.merge(trained, rest)))

    def place(wanted: Mapping[str, jax.sharding.Sharding], dtype: np.dtype = FLOAT32) -> dict[str, Any]:
        cast = {path: params[path].astype(dtype) for path in wanted}
        return {path: w if is_value(w) else jax.device_put(w, wanted[path]) for path, w in cast.items()}

    return dataclasses.replace(found, shapes=params, place=place)


def fingerprint(arrays: Any) -> str:
    """Hex SHA-256 of the bits of every array, the same on every mesh; computed where they are, in one pass."""
    state = hashlib.sha256()
    for path, array in sorted(flatten(arrays).items()):
        mixed = np.asarray(jax.device_get(_mixed(array)))
        state.update(repr((path, array.shape, array.dtype.name, mixed.tolist())).encode())
    return state.hexdigest()


@functools.partial(jax.jit)
def _mixed(array: jax.Array) -> jax.Array:
    """[2] uint32: sums, which no order of adding changes, of every element's bits mixed with its place."""
    array = array.astype(jnp.uint8) if array.dtype == bool else array
    width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[array.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(array, width).astype(jnp.uint32)
    place = jnp.zeros_like(bits)
    for dimension, size in enumerate(array.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, array.shape, dimension)
    lanes = []
    for odd in (0x9E3779B1, 0x85EBCA77):
        x = (bits ^ (place * jnp.uint32(odd))) * jnp.uint32(0xC2B2AE3D)
        x = (x ^ (x >> 15)) * jnp.uint32(odd)
        lanes.append((x ^ (x >> 13)).sum(dtype=jnp.uint32))
    return jnp.stack(lanes)
