"""Proof, before a stage is trained, that documents packed into one row cannot see each other.

In: a run's program and the rows of its stage. Out: a line for people and one in isolation.jsonl, or an error that names
the kernel. What runs is one layer of each kind of the run's model, with its heads, its row length, its mesh, dtype,
compiler options and attention, forward and backward. Three things are measured:

    packed = alone   features and gradients of a document in a row, against the same document at the start of its own
    replaced         features of a document when all others are replaced: not a bit may change
    reached          the gradient that a document's features send to the others: zero, and nothing else

The last two need no tolerance: what a softmax does not see it multiplies by zero, in any dtype and any order.
"""

import dataclasses
import json
import math
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.data import pipeline
from jaxlm.errors import NumericalError, UserError
from jaxlm.models import build, kernels
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import BATCH_AXES
from jaxlm.run.program import Program
from jaxlm.run.streams import StreamRows
from jaxlm.runtime import distributed
from jaxlm.training import probe_rows, report
from jaxlm.training.probe_rows import Case

_READ = 16  # rows of the first batch whose positions are looked at
_LARGEST = {"vocab_size": probe_rows.VOCABULARY, "mlp": 64, "generator_mlp": 64}  # nothing of attention
_TABLES = {"vocab", "positions", "types", "buckets"}  # looked up, not multiplied
_LAYERS = ("layers", "encoder_layers", "decoder_layers")


def tolerance(dtype: str, platform: str) -> float:
    """Of packed = alone, as a share of the largest number.

    A document at another place is summed in another order. In float32 that is a few of the last of 24 bits; bfloat16
    keeps 8, and so do the factors of float32 products on a TPU (11 on a GPU), a few of which add up.
    """
    return 1e-5 if dtype == "float32" and platform == "cpu" else 5e-2


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest one of its kind, as a share of the largest number of what is compared."""

    size: float = 0.0
    row: int = 0
    place: int = 0
    what: str = ""

    def or_larger(self, other: "Difference") -> "Difference":
        """NaN is larger than everything."""
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
            ("its features change when other documents of the row are replaced", self.replaced, 0.0),
            ("the gradient of other documents of the row reaches it", self.reached, 0.0),
            ("its features are not those of the document alone", self.forward, allowed),
            ("its gradient is not that of the document alone", self.gradient, allowed),
        )
        return next((one for one in checks if not one[1].size <= one[2]), None)


def prove(parts: Any, rows: Sequence[StreamRows], span: report.Span, chosen: Collection[kernels.Choice]) -> None:
    """Says and notes what was measured. NumericalError when documents see each other, UserError for wrong positions.

    `chosen`: what attention of the compiled train step runs on.
    """
    if not parts.run.check_isolation:
        return
    program: Program = parts.program
    names = {choice.name for choice in chosen}
    for read in rows:
        with distributed.ending_together():
            real = _first_batch(parts, read, span)
        for config in _parts(program.run.model):
            found = measure(program, config, real, names)
            _judge(parts, read, span, found)


def measure(program: Program, config: Any, real: Batch, names: Collection[str]) -> Measured:
    """The probe of a model like `config` on rows like those of `real`, numpy; `names`: kernels of the train step."""
    mesh = program.mesh
    count = math.prod(mesh.shape.get(axis, 1) for axis in BATCH_AXES)
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
            self._measured,
            out_shardings=(self.rows, whole, whole, whole),
            compiler_options=program.compiler_options() or None,
        )
        self.packed: Any = None  # features and gradients of the packed rows
        self.sizes: list[float] = []  # of their largest numbers

    def compare(self, case: Case) -> Iterator[tuple[str, Difference]]:
        """What differs from the packed rows, which come first."""
        arguments = self._placed((case.batch, case.kept, case.places))
        first = self.packed is None
        if first:
            out, x = jax.eval_shape(self._features, self.params, case.batch)
            like = [out, *jax.tree.leaves(x)]
            self.packed = self._placed([np.broadcast_to(np.zeros((), a.dtype), a.shape) for a in like])
        found, differ, reach, sizes = self.run(self.params, *arguments, self.packed)
        if first:
            self.packed, self.sizes = found, [float(size) or 1.0 for size in sizes]
        else:
            yield from self._differences(case, differ)
        for reach_BT, size in zip(reach, self.sizes[1:], strict=True):
            yield "reached", _largest(reach_BT, size, case, None)

    def _differences(self, case: Case, differ: Sequence[jax.Array]) -> Iterator[tuple[str, Difference]]:
        places = (case.places[-1], *case.places)
        for i, (differ_BT, size) in enumerate(zip(differ, self.sizes, strict=True)):
            difference = _largest(differ_BT, size, case, places[i])
            yield ("gradient" if i else "replaced" if case.exact else "forward"), difference

    def _features(self, params: Any, batch: Batch) -> tuple[jax.Array, Any]:
        module = self.model.bind(params)
        x = module.embed(batch)
        return module.encode(batch, None, x).x_BTD, x

    def _measured(self, params: Any, batch: Batch, kept: Any, places: Any, packed: Any) -> tuple:
        """(features and gradients; how far kept places differ from `packed`; gradients elsewhere; largest numbers)."""
        module = self.model.bind(params)
        encode = lambda x: module.encode(batch, None, x).x_BTD
        out_BTD, pull = jax.vjp(encode, module.embed(batch))
        ask_BTD = jnp.where(kept[-1][..., None], _asked(places[-1], out_BTD.shape[-1]), 0.0)
        (gradients,) = pull(ask_BTD.astype(out_BTD.dtype))
        found = [out_BTD, *jax.tree.leaves(gradients)]
        size_BT = lambda x_BTD: jnp.abs(x_BTD.astype(jnp.float32)).max(axis=-1)
        differ, reach, sizes = [], [], []
        for i, (x_BTD, before_BTD) in enumerate(zip(found, packed, strict=True)):
            kept_BT, places_BT = (kept[-1], places[-1]) if i == 0 else (kept[i - 1], places[i - 1])
            before_BTD = jnp.take_along_axis(before_BTD, places_BT[..., None], axis=1)
            apart_BT = size_BT(x_BTD.astype(jnp.float32) - before_BTD.astype(jnp.float32))
            differ.append(jnp.where(kept_BT, apart_BT, 0.0))
            sizes.append(jnp.where(kept_BT, size_BT(x_BTD), 0.0).max())
            if i:
                reach.append(jnp.where(kept_BT, 0.0, size_BT(x_BTD)))
        return found, differ, reach, sizes

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
        own = like.shape[1:] if axes[0] == "layers" else like.shape
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


def _largest(values_BT: jax.Array, size: float, case: Case, places: np.ndarray | None) -> Difference:
    values = np.asarray(values_BT)
    at = int(np.argmax(values))  # the first NaN, if there is one
    row, place = divmod(at, values.shape[1])
    shown = place if places is None else int(places[row, place])
    return Difference(float(values[row, place]) / size, row, shown, case.what)


def _parts(config: Any) -> tuple[Any, ...]:
    """The models of a config: a pair is two."""
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


def _first_batch(parts: Any, read: StreamRows, span: report.Span) -> Batch:
    """The first rows that this start trains on, the same on every host. UserError for positions that do not restart."""
    size = read.stream.batch_rows
    batches = pipeline.host_batches(
        read.rows,
        read.stream.objective,
        parts.text.vocabulary,
        batch_size=size,
        host_rows=range(min(size, _READ)),
        start=span.step - span.first,
        seed=read.rows.seed,
        train=True,
    )
    try:
        batch = next(batches)
    finally:
        batches.close()
    if wrong := probe_rows.misplaced(batch):
        raise UserError(
            f"config.objective: in the first batch of stage {span.number}, {wrong}: positions count from 0 in every "
            f"document. Fix: `prepare` of {type(read.stream.objective).__name__}."
        )
    return batch


def _judge(parts: Any, read: StreamRows, span: report.Span, found: Measured) -> None:
    dtype, platform = parts.program.model.dtype, parts.program.mesh.devices.flat[0].platform
    allowed, kernel = tolerance(dtype, platform), " and ".join(found.kernels)
    worst = found.worst(allowed)
    if distributed.is_main():
        _note(parts, read, span, found, passed=worst is None)
    of = f" of task {read.stream.name}" if read.stream.name else ""
    if worst is None:
        parts.console.say(
            f"  {'isolation' + of:<17}  packed = alone: {found.forward.size:.1e} forward, {found.gradient.size:.1e} "
            f"gradient ({dtype}, {kernel}, tolerance {allowed:.0e}); others replaced: 0, their gradient: 0"
        )
        return
    claim, difference, limit = worst
    change = "" if found.kernels == ("xla",) else "--config.model.attention=xla, and "
    raise NumericalError(
        f"documents packed into one row see each other. Kernel {kernel}, {dtype}, rows of {span.stage.length}: of the "
        f"document {difference.what} at place {difference.place} of probe row {difference.row} (documents end at "
        f"{', '.join(map(str, found.ends[difference.row]))}) {claim}: by {difference.size:.1e} of the largest number, "
        f"allowed is {limit:.0e}. Nothing was trained. Fix: {change}other versions of jax and its drivers; "
        f"--config.check_isolation=false trains all the same."
    )


def _note(parts: Any, read: StreamRows, span: report.Span, found: Measured, *, passed: bool) -> None:
    program = parts.program
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "step": span.step,
        "stage": span.number,
        "task": read.stream.name,
        "length": span.stage.length,
        "kernels": found.kernels,
        "dtype": program.model.dtype,
        "device": program.mesh.devices.flat[0].device_kind,
        "mesh": {name: size for name, size in program.mesh.shape.items() if size > 1},
        "jax": jax.__version__,
        **{name: getattr(found, name).size for name in ("forward", "gradient", "replaced", "reached")},
        "tolerance": tolerance(program.model.dtype, program.mesh.devices.flat[0].platform),
        "documents_end": found.ends[:4],
        "passed": passed,
    }
    with parts.place.isolation.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
