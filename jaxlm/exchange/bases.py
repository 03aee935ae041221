"""What a run's view leaves as it is: where it comes from, and whether it is still the same. In: a Program. Out: arrays.

Frozen weights are not saved: a checkpoint holds their source and fingerprint. Guaranteed: a base that changed is
refused by its fingerprint, whatever mesh it lies on.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.config import Run
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import starting, tokenizer_files
from jaxlm.exchange.stored import Stored
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import plain
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.program import Program

Say = Callable[[str], None]


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
                f"{where} was trained on top of {saved['source']} (fingerprint {saved['fingerprint'][:12]}); "
                f"{self.source} is another base (fingerprint {self.fingerprint[:12] or 'of nothing'}). Fix: name the "
                "right one, with --config.init_from=DIR in training and --base=DIR in other commands."
            )
        return self


def parameters(program: Program, tokenizer: Tokenizer, say: Say) -> Any:
    """What a run starts with: drawn from its seed, or read from `init_from`. UserError when that does not fit."""
    fresh = program.parameters()
    run = program.run
    return (
        starting.params(run, program.model, fresh, program.params, tokenizer, say) if run.init_from else fresh
    )


def frozen(program: Program, tokenizer: Tokenizer, say: Say) -> Any:
    """What a view leaves as it is, made again; {} without a view."""
    return program.split(parameters(program, tokenizer, say))[1] if program.run.view else {}


def merged(found: Stored, base: str, say: Say) -> Stored:
    """A checkpoint of a run with a view as the plain model it stands for; anything else as it is.

    `base`: where the frozen weights are now, if not where the run read them. UserError when they are not the same.
    """
    if found.run is None or not found.run.view:
        return found
    run = dataclasses.replace(found.run, mesh=Mesh(), precision="float32")
    run.init_from = base or run.init_from
    program = Program.of(run, meshes.make(run.mesh, jax.local_devices()[:1]))
    tokenizer = tokenizer_files.open_files(found.tokenizer, found.where)
    rest = frozen(program, tokenizer, say)
    Base.of(run).seen(rest).check(found.meta.get("base"), found.where)
    where = {path: leaf.sharding for path, leaf in flatten(program.state.params).items()}
    params = flatten(plain(program.view.merge(nest(found.place(where)), rest)))
    place = lambda wanted: {path: jax.device_put(params[path], there) for path, there in wanted.items()}
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
