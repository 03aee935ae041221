"""Memory of a device from shapes alone. In: a program, a stage. Out: bytes by what they are for.

What is held from step to step is exact: parameters, moments, averages, the batch. What lives within a step is an
estimate: activations are the arrays that `jax.vjp` keeps for the backward pass, under the remat policy of the run, and
beside them stand a block's own work, gathered weights and the head. Nothing is computed.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Batches
from jaxlm.partition import hosted
from jaxlm.partition import mesh as meshes
from jaxlm.planning.targets import Target
from jaxlm.run.program import Program


@dataclasses.dataclass(frozen=True)
class Known:
    """What was found of runs that differ in mesh, rematerialisation and micro-batches only: found once."""

    kept: dict[tuple, list[Any]] = dataclasses.field(default_factory=dict)  # what was traced -> its arrays
    programs: dict[tuple, Program] = dataclasses.field(default_factory=dict)  # by mesh


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one device."""

    parameters: int  # trained
    optimizer: int  # moments and counters
    averages: int
    frozen: int
    batch: int
    host: int  # moments and averages in the host's memory, which are none of the above
    gradients: int  # estimates from here on
    activations: int  # kept for the backward pass
    working: int  # of the block under way, gathered weights, the head

    @property
    def held(self) -> int:
        """What stays from step to step, and the batch: exact."""
        return self.parameters + self.optimizer + self.averages + self.frozen + self.batch

    @property
    def total(self) -> int:
        """An estimate of the peak."""
        return self.held + self.gradients + self.activations + self.working


@dataclasses.dataclass(frozen=True)
class Kept:
    """An array that is kept for the backward pass."""

    shape: tuple[int, ...]  # on one device
    dtype: str
    bytes: int

    def __str__(self) -> str:
        """As XLA writes it."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def of(
    program: Program, batches: Batches, target: Target, known: Known | None = None
) -> tuple[Memory, list[Kept]]:
    """(bytes, the arrays of `activations`, largest first)."""
    state, run, known = program.state, program.run, known or Known()
    kept = activations(program, batches, target, known)
    weights = held(state.params)
    accumulators = 2 if run.accumulate > 1 else 1  # the sum so far, and what a micro-batch adds
    moments = held((state.opt_state, state.step, state.skipped, state.skipped_in_a_row))
    of_gradients = held(jax.tree.map(_like_moments(program), state.params))
    memory = Memory(
        parameters=weights,
        optimizer=moments,
        averages=held(state.ema),
        frozen=held(program.frozen),
        batch=held(batches),
        host=hosted.size(state),
        gradients=accumulators * of_gradients,
        activations=sum(one.bytes for one in kept),
        working=_working(program, batches, target, kept, known),
    )
    return memory, kept


def blocks(model: Any) -> int:
    """How many a model has, on both sides where there are two."""
    return sum(getattr(model, name, 0) for name in ("layers", "encoder_layers", "decoder_layers")) or 1


def held(abstract: Any) -> int:
    """Bytes on one device of a tree of shapes with shardings, but for what lies in its host's memory."""
    return sum(hosted.held(leaf) for leaf in jax.tree.leaves(abstract) if not hosted.is_hosted(leaf))


def _like_moments(program: Program) -> Any:
    """Gradients are split as moments are, also where weights are whole (ZeRO-1 and 2)."""
    parts = program.mesh.shape["fsdp"] if program.run.mesh.fsdp_splits == "optimizer" else 1

    def split(leaf: Any) -> Any:
        if parts == 1 or not leaf.shape:
            return leaf
        by = max(range(len(leaf.shape)), key=lambda i: leaf.shape[i] % parts == 0 and leaf.shape[i])
        shape = tuple(-(-n // parts) if i == by else n for i, n in enumerate(leaf.shape))
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=leaf.sharding)

    return split


def activations(
    program: Program, batches: Batches, target: Target, known: Known, remat: str = ""
) -> list[Kept]:
    """What the backward pass of one micro-batch finds, on one device; `remat` in place of the run's."""
    mesh, run = program.mesh.shape, program.run
    parts = meshes.row_devices(program.mesh) * run.accumulate
    remat = remat or getattr(run.model, "remat", "")
    remat = "block" if remat == "offload" else remat  # what else there is lies with the host
    one, two = (_traced(program, batches, target, known, remat, (parts, n)) for n in (1, 2))
    grows = [
        leaf for leaf, other in zip(one, two, strict=True) if leaf.shape != other.shape
    ]  # others are weights
    # A stage keeps as much of its layers for all parts as a device of all layers for its own rows; of idle steps, too.
    share = 1 / mesh["context"] / (1 - program.schedule.bubble)
    found = [_kept(leaf, mesh["tensor"], run.model.hidden, share) for leaf in grows]
    return sorted(found, key=lambda kept: -kept.bytes)


def _traced(
    program: Program, batches: Batches, target: Target, known: Known, remat: str, rows: tuple[int, int]
) -> list[Any]:
    """What is kept of so many rows: a part of so many, how often."""
    own = {name: _rows(batch, *rows) for name, batch in batches.items()}
    key = (remat, *(leaf.shape for leaf in jax.tree.leaves(own)))
    if key not in known.kept:
        known.kept[key] = _residuals(_alone(program, target, remat), own)
    return known.kept[key]


def _alone(program: Program, target: Target, remat: str) -> Program:
    """The program on one device, as what is traced there is what a device of many sees."""
    run = program.run
    model = dataclasses.replace(run.model, remat=remat) if remat else run.model
    run = dataclasses.replace(run, model=model, mesh=meshes.Mesh(data=1), accumulate=1)
    device = target.devices()[0]
    if (
        device.platform == "gpu"
    ):  # cuDNN cannot be traced where it is not; the TPU's kernel keeps as much: no scores
        device = dataclasses.replace(device, platform="tpu")
    return Program.of(run, meshes.make(run.mesh, [device]))


def _rows(batch: Any, parts: int, times: int) -> Any:
    """The abstract batch of so many parts of its rows."""
    rows = lambda leaf: max(leaf.shape[0] // parts, 1) * times
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((rows(leaf), *leaf.shape[1:]), leaf.dtype), batch)


def _residuals(program: Program, batches: Mapping[str, Any]) -> list[Any]:
    def backward(params: Any, frozen: Any, batches: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            terms = program.tasks.loss(program.bind(params, frozen), batches, jax.random.key(0)).terms
            return jnp.stack([total for total, _ in terms.values()]).sum()

        return jax.vjp(loss, params)[1]

    plain = lambda tree: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    with jax.set_mesh(program.mesh):
        made = jax.eval_shape(backward, plain(program.state.params), plain(program.frozen), batches)
    return jax.tree.leaves(made)


def _kept(leaf: Any, tensor: int, hidden: int, share: float) -> Kept:
    """Of what is kept only the residual stream is whole under tensor parallelism. `share`: of every array."""
    shape = tuple(leaf.shape)
    split = tensor > 1 and hidden not in shape[-1:]
    size = math.prod(shape) * leaf.dtype.itemsize * share / (tensor if split else 1)
    return Kept(shape, str(leaf.dtype), round(size))


def _working(program: Program, batches: Batches, target: Target, kept: list[Kept], known: Known) -> int:
    """A block's own arrays; its weights, gathered; the head in float32, whole, and its gradient; what stages trade."""
    model, mesh, schedule = program.run.model, program.mesh.shape, program.schedule
    layers = blocks(model)
    whole = kept
    if getattr(model, "remat", "none") != "none":
        whole = activations(program, batches, target, known, "none")
    block = sum(one.bytes for one in whole) // layers
    if schedule.stages > 1:  # of one part
        block = round(block * (1 - schedule.bubble) / schedule.each)
    traded = (
        2 * _blocks(program) if schedule.repeats > 1 else 0
    )  # weights in the order of a pass, and their gradient
    width = 2 if program.model.dtype == "bfloat16" else 4
    gathered = 0
    if mesh["fsdp"] > 1:
        weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(program.params))
        gathered = 2 * width * weights // (layers * mesh["tensor"])
    head = 2 * 4 * model.vocab_size * model.hidden // mesh["tensor"]
    return block + gathered + head + traded


def _blocks(program: Program) -> int:
    """Bytes of weights that lie in layers."""
    axes = jax.tree.leaves(program.model.axes, is_leaf=lambda node: isinstance(node, tuple))
    own = zip(jax.tree.leaves(program.params), axes, strict=True)
    return held([leaf for leaf, names in own if "layers" in names])
