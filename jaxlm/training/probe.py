"""The probe: a shallow model like the run's, forward and backward, on packed rows and on what should equal them.

In: a run's program and a batch of its rows, numpy. Out: `Measured`. What runs is one layer of each kind of the model,
with its heads, row length, mesh, dtype, compiler options and attention; weights that make attention count.
"""

import dataclasses
import math
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.models import build, kernels
from jaxlm.models.parameters import STACKS
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.run.program import Program
from jaxlm.training import probe_rows
from jaxlm.training.probe_rows import Case

# Nothing of attention. One expert: a choice between two may turn with the last bit of what it is made of.
_LARGEST = {
    **{"vocab_size": probe_rows.VOCABULARY, "mlp": 64, "generator_mlp": 64},
    **{"experts": 1, "experts_per_token": 1},
}
_TABLES = {"vocab", "positions", "types", "buckets"}  # looked up, not multiplied
_LAYERS = ("layers", "encoder_layers", "decoder_layers")


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest one of its kind, as a share of the largest number of what is compared."""

    size: float = 0.0
    row: int = 0
    place: int = 0

    def or_larger(self, other: "Difference") -> "Difference":
        """NaN, a share of infinity, is larger than everything."""
        return self if self.size >= other.size or math.isnan(self.size) else other


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """What the probe found for one task of a stage."""

    kernels: tuple[str, ...]
    forward: Difference  # packed = alone, like the next
    gradient: Difference
    replaced: Difference
    reached: Difference
    ends: list[list[int]]  # where the documents of every row end

    def worst(self, allowed: float) -> tuple[str, Difference, float] | None:
        """(what failed, by how much, what was allowed)."""
        checks = (
            ("features change when other documents of the row are replaced", self.replaced, 0.0),
            ("gradients of other documents arrive", self.reached, 0.0),
            ("features are not those of the document alone", self.forward, allowed),
            ("the gradient is not that of the document alone", self.gradient, allowed),
        )
        return next((one for one in checks if not one[1].size <= one[2]), None)


def models(config: Any) -> tuple[Any, ...]:
    """What is probed of a config: a pair is two models."""
    return (config.generator, config.discriminator) if config.kind == "pair" else (config,)


def _shallow(config: Any, names: Collection[str]) -> Any:
    """A layer of each kind, and little of what is not attention. Families with other fields stay as they are."""
    fields = {field.name for field in dataclasses.fields(config)}
    kinds = max(2 if "global_every" in fields else 1, len(getattr(config, "windows", ())))
    most = _LARGEST | dict.fromkeys(_LAYERS, kinds)
    changes = {name: min(getattr(config, name), n) for name, n in most.items() if name in fields}
    # Dropout of probabilities rules kernels out, and the probe has none.
    changes |= {"attention": "xla"} if names == {"xla"} and "attention" in fields else {}
    return dataclasses.replace(config, **changes)


def measure(program: Program, config: Any, real: Batch, names: Collection[str]) -> Measured:
    """The probe of a model like `config` on rows like those of `real`, numpy; `names`: kernels of the train step."""
    mesh = program.mesh
    count = meshes.row_devices(mesh)
    rows = probe_rows.probe_rows(real, count * math.ceil(4 / count))
    probe = _Probe(program, _shallow(config, names))
    with kernels.recorded() as recorded:
        worst = {name: Difference() for name in ("forward", "gradient", "replaced", "reached")}
        for case in probe_rows.cases(rows):
            for name, difference in probe.compare(case):
                worst[name] = worst[name].or_larger(difference)
    tried = tuple(dict.fromkeys(choice.name for choice in recorded))
    return Measured(kernels=tried, ends=[probe_rows.ends(row) for row in rows], **worst)


class _Probe:
    """A shallow model on the run's mesh, and its program: compiled once for all cases."""

    def __init__(self, program: Program, config: Any) -> None:
        self.mesh = program.mesh
        self.model = build.build(config, {}, dtype=program.model.dtype)
        where = partition.shardings(self.model.shapes, self.model.axes, self.mesh)
        self.params = jax.tree.map(_placed, _weights(self.model), where)
        self.rows, whole = partition.batch_sharding(self.mesh), partition.replicated(self.mesh)
        self.run = jax.jit(
            self._features,
            out_shardings=(self.rows, whole, whole),
            compiler_options=program.compiler_options() or None,
        )
        self.apart = jax.jit(_apart, out_shardings=whole)
        self.packed: list[jax.Array] = []  # features of the packed rows, and gradients of what goes in
        self.sizes: list[float] = []  # of their largest numbers

    def compare(self, case: Case) -> Iterator[tuple[str, Difference]]:
        """What differs from the packed rows, which come first, and what a gradient reaches besides its document."""
        batch, kept, places = self._placed((case.batch, case.kept, case.places))
        found, reached, sizes = self.run(self.params, batch, kept, places)
        if not self.packed:
            self.packed, self.sizes = found, [float(size) or 1.0 for size in sizes]
        for values_BT, size in zip(reached, self.sizes[1:], strict=True):
            yield "reached", _largest(values_BT, size)
        sides = (len(kept) - 1, *range(len(kept)))  # of the features, and of every gradient
        for i, side in enumerate(sides):
            values_BT = self.apart(found[i], self.packed[i], kept[side], places[side])
            name = "gradient" if i else "replaced" if case.exact else "forward"
            yield name, _largest(values_BT, self.sizes[i], case.places[side])

    def _features(self, params: Any, batch: Batch, kept: Any, places: Any) -> tuple[list, list, list]:
        """([features, gradient of every side], gradients outside of `kept`, the largest number of each in `kept`)."""
        module = self.model.bind(params)
        encode = lambda x: module.encode(batch, None, x).x_BTD
        out_BTD, pull = jax.vjp(encode, module.embed(batch))
        ask_BTD = jnp.where(kept[-1][..., None], _asked(places[-1], out_BTD.shape[-1]), 0.0)
        gradients = jax.tree.leaves(pull(ask_BTD.astype(out_BTD.dtype)))
        reached = [jnp.where(k, 0.0, _largest_feature(x)) for k, x in zip(kept, gradients, strict=True)]
        found = [out_BTD, *gradients]
        sizes = [
            jnp.where(k, _largest_feature(x), 0.0).max()
            for k, x in zip((kept[-1], *kept), found, strict=True)
        ]
        return found, reached, sizes

    def _placed(self, tree: Any) -> Any:
        return jax.tree.map(lambda x: _placed(x, self.rows), tree)


def _weights(model: build.Model) -> Any:
    """Weights that make attention count, numpy, the same on every host: a sum of products has deviation 1.

    Freshly drawn ones of most families hardly attend, and what leaks would be lost in the rounding of the residual.
    """
    rng = np.random.default_rng(0)

    def draw(like: Any, inputs: int, axes: tuple[str | None, ...]) -> np.ndarray:
        if not inputs:  # norms and biases
            return rng.uniform(0.5, 1.5, like.shape).astype(np.float32)
        own = like.shape[sum(axis in STACKS for axis in axes) :]
        terms = own[-1] if _TABLES.intersection(axes) else math.prod(own[:inputs])
        return rng.standard_normal(like.shape, np.float32) * np.float32(terms**-0.5)

    return jax.tree.map(draw, model.shapes, model.inputs, model.axes)


def _placed(x: np.ndarray, sharding: Any) -> jax.Array:
    """Numpy that every host has whole -> a global array."""
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def _asked(places_BT: jax.Array, width: int) -> jax.Array:
    """What the gradient is taken of: every feature of a place counts differently, wherever its document stands."""
    rng = np.random.default_rng(1)
    turns_D, phase_D = rng.uniform(0.1, 3.0, width), rng.uniform(0.0, 6.0, width)
    return jnp.cos(places_BT[..., None] * jnp.float32(turns_D) + jnp.float32(phase_D))


def _apart(x_BTD: jax.Array, packed_BTD: jax.Array, kept_BT: jax.Array, places_BT: jax.Array) -> jax.Array:
    """How far kept places are from what they are in the packed rows."""
    packed_BTD = jnp.take_along_axis(packed_BTD, places_BT[..., None], axis=1)
    return jnp.where(
        kept_BT, _largest_feature(x_BTD.astype(jnp.float32) - packed_BTD.astype(jnp.float32)), 0.0
    )


def _largest_feature(x_BTD: jax.Array) -> jax.Array:
    x_BTD = jnp.abs(x_BTD.astype(jnp.float32))
    return jnp.where(jnp.isnan(x_BTD), jnp.inf, x_BTD).max(axis=-1)  # XLA's max may lose a NaN


def _largest(values_BT: jax.Array, size: float, places: np.ndarray | None = None) -> Difference:
    """`places`: where these stand in the packed rows."""
    values = np.asarray(values_BT)
    row, place = divmod(int(np.argmax(values)), values.shape[1])
    shown = place if places is None else int(places[row, place])
    return Difference(float(values[row, place]) / size, row, shown)
