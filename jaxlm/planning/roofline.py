"""Seconds of a step at best, by what bounds it. In: FLOPs, bytes and collectives of a device. Out: `Times`.

A roofline: the step takes as long as the slowest of computing, reading and writing memory, and the network, as if the
others hid behind it. `EFFICIENCY` stands for all that is not so; docs/scale.md compares it with published runs.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.models.pipeline import Schedule
from jaxlm.planning.collectives import UNKNOWN, Collective
from jaxlm.planning.targets import Target

# Share of the peak that the matrix products of a large, well-fed step reach. Of three published runs that are bound by
# compute it is 0.61 to 0.65, with what they compute again (docs/scale.md).
EFFICIENCY = 0.62
_ALONE = Schedule.of(1, 1)  # without stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one step."""

    compute: float
    memory: float
    network: Mapping[str, float]  # by mesh axes

    @property
    def step(self) -> float:
        """Of the whole."""
        return max(self.bounds.values())

    @property
    def bound(self) -> str:
        """What the step waits for."""
        return max(self.bounds, key=lambda name: self.bounds[name])

    @property
    def bounds(self) -> dict[str, float]:
        """The parts by name; different mesh axes share links and add up."""
        return {"compute": self.compute, "memory": self.memory, "network": sum(self.network.values())}


def times(
    target: Target,
    mesh: jax.sharding.Mesh,
    *,
    flops: float,
    hbm_bytes: float,
    collectives: Iterable[Collective],
    efficiency: float = EFFICIENCY,
    idle: float = 0.0,
) -> Times:
    """Of a step whose devices compute `flops` each (what is computed twice counts twice) and move `hbm_bytes`.

    `idle`: the share of the time of computing in which a stage of a pipeline has nothing to do.
    """
    chip, network = target.chip, dict[str, float]()
    for one in collectives:
        name = "+".join(one.axes)
        network[name] = network.get(name, 0.0) + _travel(one, target, mesh)
    memory = hbm_bytes / chip.bandwidth if chip.bandwidth else 0.0
    compute = flops / (chip.peak * efficiency * (1 - idle))
    return Times(compute=compute, memory=memory, network=network)


def mfu(target: Target, model_flops: float, seconds: float) -> float:
    """Of a step whose model takes `model_flops` on each device."""
    return model_flops / (seconds * target.chip.peak)


def _travel(one: Collective, target: Target, mesh: jax.sharding.Mesh) -> float:
    """Seconds. Across slices or hosts a device first reduces within its own, then sends its part outside."""
    chip = target.chip
    if not chip.link or not chip.outside:
        return 0.0
    group = _group(one.axes, mesh)
    places = {_outer(device) for device in group}
    inside = len(group) // len(places)
    outside = one.wire_bytes * _share(len(places)) / _share(one.devices) / inside / chip.outside
    if len(places) == 1:
        return one.wire_bytes / (chip.link * lanes(group, target))
    if inside == 1:
        return outside
    within = [device for device in group if _outer(device) == _outer(group[0])]
    return outside + one.wire_bytes * _share(inside) / _share(one.devices) / (
        chip.link * lanes(within, target)
    )


def _share(devices: int) -> float:
    return max(devices - 1, 0) / devices if devices > 1 else 1.0


def _outer(device: Any) -> tuple[int, int]:
    """What neighbours share: the slice; of GPUs the host."""
    return (getattr(device, "slice_index", 0), device.process_index if device.platform == "gpu" else 0)


def _group(axes: Sequence[str], mesh: jax.sharding.Mesh) -> list[Any]:
    """The first devices that differ along these axes only; all of them for axes that are not known."""
    if UNKNOWN in axes:
        return list(mesh.devices.flat)
    chosen = tuple(slice(None) if name in axes else 0 for name in mesh.axis_names)
    return list(np.asarray(mesh.devices[chosen]).flat)


def lanes(group: Sequence[Any], target: Target) -> int:
    """Links that a device of a group sends on at once: one along a line of the torus, two along a ring."""
    if target.generation.platform == "gpu":
        return 1
    found = 0
    for axis, size in enumerate(target.topology):
        extent = len({device.coords[axis] for device in group})
        if extent > 1:
            found += 2 if extent == size and target.wraps[axis] else 1
    return max(found, 1)


def expected(
    mesh: Mapping[str, int],
    *,
    weights: float,
    width: int,
    stream: float,
    layers: int,
    accumulate: int,
    whole_weights: bool,
    repeats: bool,
    schedule: Schedule = _ALONE,
) -> list[Collective]:
    """The collectives that a step should need, without a compiler; sizes are bytes on a device before they are split.

    `weights` numbers of `width` bytes; `stream`: bytes of a layer's activations of a micro-batch. fsdp gathers weights
    forward and backward and sums gradients (whole ones, of which a device keeps its part: so libtpu 0.0.42 compiles
    it), data sums the parts; tensor sums the stream twice a layer in each pass, of which `repeats` adds one. In every
    step of the `schedule` a stage sends on the stream of a part, and of one that waits, forward and backward; where
    parts go round several times, stages trade weights in float32, and gradients back.
    """
    stages = schedule.stages
    own = weights / mesh["tensor"] / stages
    made = []
    if stages > 1:
        sent = 4 * schedule.steps * stream / schedule.each
        made.append(_one("collective-permute", ("stage",), mesh, accumulate, sent))
    if schedule.repeats > 1:
        traded = 2 * 4 * own / mesh["fsdp"] * (1 - 1 / stages)
        made.append(_one("collective-permute", ("stage",), mesh, accumulate, traded))
    if mesh["fsdp"] > 1:
        passes = 1 if whole_weights else accumulate * 2
        made.append(_one("all-gather", ("fsdp",), mesh, passes, width * own))
        made.append(_one("all-reduce", ("fsdp",), mesh, accumulate, width * own))
    if mesh["data"] > 1:
        made.append(_one("all-reduce", ("data",), mesh, 1, 4 * own / mesh["fsdp"]))
    if mesh["tensor"] > 1:
        passes = (6 if repeats else 4) * layers * accumulate
        made.append(_one("all-reduce", ("tensor",), mesh, passes, stream))
    return made


def _one(kind: str, axes: tuple[str, ...], mesh: Mapping[str, int], count: int, size: float) -> Collective:
    return Collective(kind, axes, math.prod(mesh[axis] for axis in axes), count, round(count * size))
