"""Machines by the names they are ordered by. In: `v5e-256`, `2xv5p-512`, `h100-8`. Out: their devices, described.

v4-N and v5p-N count cores, two in a chip; v5e-N and v6e-N count chips; GPUs are counted as they are, eight of them in a
host. The shapes are those of cloud.google.com/tpu/docs (2026-11).
"""

import dataclasses
import functools
import itertools
import math
import re

from jaxlm.errors import UserError, did_you_mean
from jaxlm.monitor import hardware
from jaxlm.partition import hosted

_GPUS_OF_HOST = 8
_SQUARES = {1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}
_BELOW_A_CUBE = {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4)}
_CUBE = 64  # chips; larger slices are made of cubes of 4 x 4 x 4


@dataclasses.dataclass(frozen=True)
class Generation:
    """Machines of one kind of chip."""

    name: str
    device_kind: str
    counts: int  # of its names per chip
    largest: tuple[int, ...]  # topology, in chips; (): GPUs
    options: tuple[tuple[str, object], ...] = ()  # for libtpu

    @property
    def platform(self) -> str:
        """As JAX calls it."""
        return "tpu" if self.largest else "gpu"

    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Topology of a slice by its chips."""
        if len(self.largest) == 2:
            return _SQUARES
        return _BELOW_A_CUBE | _cubes(self.largest)


GENERATIONS = {
    one.name: one
    for one in (
        Generation("v4", "TPU v4", 2, (16, 16, 16), (("chip_config_name", "megacore"),)),
        Generation("v5e", "TPU v5 lite", 1, (16, 16)),
        Generation("v5p", "TPU v5", 2, (16, 16, 24)),
        Generation("v6e", "TPU v6 lite", 1, (16, 16)),
        Generation("a100", "NVIDIA A100-SXM4-80GB", 1, ()),
        Generation("h100", "NVIDIA H100 80GB HBM3", 1, ()),
        Generation("h200", "NVIDIA H200", 1, ()),
        Generation("b200", "NVIDIA B200", 1, ()),
    )
}


@functools.cache
def _cubes(largest: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """The most compact box of cubes for every number of them that has one."""
    sides = [range(1, side // 4 + 1) for side in largest]
    boxes = {box for box in itertools.product(*sides) if list(box) == sorted(box)}
    found: dict[int, tuple[int, ...]] = {}
    for box in sorted(boxes, key=lambda box: -sum(box)):  # the most compact is the last
        found[_CUBE * math.prod(box)] = tuple(4 * side for side in box)
    return dict(sorted(found.items()))


class Memory(str):
    """What a device reads and writes; JAX asks for its name in both ways."""

    @property
    def kind(self) -> str:
        """Its name."""
        return str(self)


@dataclasses.dataclass(frozen=True)
class Device:
    """One that is not there, with all that a mesh asks of it."""

    id: int
    platform: str
    device_kind: str
    coords: tuple[int, ...]
    slice_index: int
    process_index: int = 0
    core_on_chip: int = 0

    def default_memory(self) -> Memory:
        """Its own."""
        return Memory("device")

    def addressable_memories(self) -> list[Memory]:
        """Its own, and its host's."""
        return [self.default_memory(), Memory(hosted.MEMORY)]


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine: slices of chips, a JAX device each."""

    generation: Generation
    chips: int  # of a slice
    slices: int
    topology: tuple[int, ...]  # of a slice; of GPUs (hosts, GPUs of a host)

    @property
    def name(self) -> str:
        """As it is ordered."""
        one = f"{self.generation.name}-{self.chips * self.generation.counts}"
        return one if self.slices == 1 else f"{self.slices}x{one}"

    @property
    def size(self) -> int:
        """Chips of all slices."""
        return self.chips * self.slices

    @property
    def chip(self) -> hardware.Chip:
        """What is known of one."""
        found = hardware.chip(self.generation.device_kind)
        assert found is not None
        return found

    @property
    def wraps(self) -> tuple[bool, ...]:
        """Whether a dimension of the topology is a ring: in slices of whole cubes, or along a whole pod."""
        if len(self.topology) == 3:
            return (self.chips % _CUBE == 0,) * 3
        return tuple(size == 16 for size in self.topology)

    def devices(self) -> list[Device]:
        """All of them."""
        kind, platform = self.generation.device_kind, self.generation.platform
        places = [(*place, 0, 0)[:3] for place in itertools.product(*map(range, self.topology))]
        return [
            Device(k * self.chips + i, platform, kind, place, k, place[0] if platform == "gpu" else 0)
            for k in range(self.slices)
            for i, place in enumerate(places)
        ]

    def __str__(self) -> str:
        """For the head of a table."""
        shape = " x ".join(map(str, self.topology))
        if self.generation.platform == "gpu":
            return f"{self.name}: {self.size} GPUs, {self.generation.device_kind}, {shape}"
        several = f"{self.slices} slices of " if self.slices > 1 else ""
        return f"{self.name}: {several}{self.chips} chips, {self.generation.device_kind}, topology {shape}"


def parse(text: str, slices: int = 1) -> Target:
    """The machine of a name. UserError for one that is not known, or of a size that there is not."""
    found = re.fullmatch(r"(?:([1-9]\d*)x)?([a-z]+\d*[a-z]*|v\d[a-z]?)-([1-9]\d*)", text.strip().lower())
    if not found or found[2] not in GENERATIONS:
        close = did_you_mean(text.lower().split("-")[0].split("x")[-1], GENERATIONS)
        raise UserError(
            f"--target={text}: no machine that is known.{close} Allowed: {allowed()}; of TPUs several slices too, as "
            "2xv5e-256 or --slices=2."
        )
    if found[1] and slices != 1:
        raise UserError(f"--target={text} has its slices in its name. Fix: leave out --slices={slices}.")
    generation, number = GENERATIONS[found[2]], int(found[3])
    slices = int(found[1] or slices)
    if generation.platform == "gpu":
        return _of_gpus(text, generation, number, slices)
    shape = generation.shapes().get(number // generation.counts)
    if shape is None or number % generation.counts:
        sizes = _sizes(generation)
        near = sorted(sizes, key=lambda size: (abs(size - number), size))[:2]
        what = "cores, two in a chip" if generation.counts == 2 else "chips"
        raise UserError(
            f"--target={text}: there is no {generation.name} slice of that size (it counts {what}). Allowed: "
            f"{', '.join(map(str, sizes))}. Nearest: {', '.join(f'{generation.name}-{n}' for n in sorted(near))}."
        )
    return Target(generation, math.prod(shape), slices, shape)


def _of_gpus(text: str, generation: Generation, number: int, slices: int) -> Target:
    if slices != 1:
        raise UserError(f"--target={text}: GPUs have no slices. Fix: {generation.name}-{slices * number}.")
    if number > _GPUS_OF_HOST and number % _GPUS_OF_HOST:
        raise UserError(
            f"--target={text}: a host has {_GPUS_OF_HOST} GPUs. Allowed: 1 to {_GPUS_OF_HOST}, and multiples of it."
        )
    hosts = max(1, number // _GPUS_OF_HOST)
    return Target(generation, number, 1, (hosts, number // hosts))


def _sizes(generation: Generation) -> list[int]:
    return [generation.counts * chips for chips in generation.shapes()]


def allowed() -> str:
    """Every kind of machine with an example's size."""
    names = []
    for one in GENERATIONS.values():
        names.append(f"{one.name}-{_sizes(one)[0]}..{_sizes(one)[-1]}" if one.largest else f"{one.name}-N")
    return ", ".join(names)
