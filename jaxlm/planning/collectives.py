"""What travels between devices in a step. In: a compiled program, the shape of its mesh. Out: bytes by kind and axis.

A group of devices is put down to the mesh axes whose coordinates differ within it. Guarantee: a group that cannot be
read is put down to the axis "?", and nothing is left out.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from jaxlm.planning.hlo import Executed, Module, array_bytes, largest_array

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)
UNKNOWN = "?"


@dataclasses.dataclass(frozen=True)
class Collective:
    """All of one kind over the same mesh axes. Bytes are those of the whole array on a device: of what is gathered
    or reduced, not of what its links carry."""

    kind: str
    axes: tuple[str, ...]
    devices: int  # of a group
    count: int  # in a step, loops multiplied
    bytes: int

    @property
    def wire_bytes(self) -> float:
        """What a device sends at least (ring algorithms; of an all-to-all all but its own part)."""
        share = (self.devices - 1) / self.devices
        return self.bytes * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


def of(module: Module, mesh: Mapping[str, int]) -> list[Collective]:
    """The collectives of a program, those with most bytes first. `mesh`: axis -> devices, in the order of its array."""
    found: dict[tuple, list[float]] = {}
    for executed, kind in _once(module):
        axes, devices = _axes(executed, mesh)
        if devices == 1:
            continue
        entry = found.setdefault((kind, axes, devices), [0, 0.0])
        entry[0] += executed.times
        entry[1] += executed.times * _bytes(module, executed, kind)
    made = [Collective(*key, count=int(n), bytes=round(size)) for key, (n, size) in found.items()]
    return sorted(made, key=lambda one: -one.bytes)


def _once(module: Module) -> list[tuple[Executed, str]]:
    """What is executed, and its kind. One that runs beside other work stands in several fusions, its start, its middle
    and its end, with one channel: it counts as often as the rarest of them."""
    alone, beside = [], dict[str, tuple[Executed, str]]()
    for executed in module.executed():
        kind = _kind(module, executed)
        channel = re.search(r"channel_id=(\d+)", executed.what.rest)
        if kind is None:
            continue
        if not executed.fused or not channel:
            alone.append((executed, kind))
        elif channel[1] not in beside or executed.times < beside[channel[1]][0].times:
            beside[channel[1]] = (executed, kind)
    return [*alone, *beside.values()]


def _kind(module: Module, executed: Executed) -> str | None:
    name = executed.what.opcode.removesuffix("-start")
    if name not in KINDS:
        return None
    # The TPU compiler writes a reduce-scatter as a fusion: an all-reduce of which a device keeps its part.
    if name == "all-reduce" and executed.fused and _is_sliced(module, executed):
        return "reduce-scatter"
    return name


def _is_sliced(module: Module, executed: Executed) -> bool:
    inner = module.computations[executed.computation].values()
    return any(one.opcode == "dynamic-slice" for one in inner)


def _bytes(module: Module, executed: Executed, kind: str) -> float:
    one, scope = executed.what, module.computations[executed.computation]
    given = sum(array_bytes(scope[name].type) for name in one.operands if name in scope)
    if one.opcode.endswith("-start") and kind != "all-reduce":  # (operand, result, ...)
        return max(given, largest_array(one.type))
    return max(given, array_bytes(one.type))


def _axes(executed: Executed, mesh: Mapping[str, int]) -> tuple[tuple[str, ...], int]:
    """(the mesh axes that a group spans, its devices)."""
    total, rest = math.prod(mesh.values()), executed.what.rest
    if pairs := re.search(r"source_target_pairs=\{(\{[\d,{}\s]*\})\}", rest):
        numbers = np.array(
            [[int(n) for n in pair.split(",")] for pair in re.findall(r"\{([\d,\s]+)\}", pairs[1])]
        )
        moved = numbers[numbers[:, 0] != numbers[:, 1]]
        if not len(moved):
            return (), 1
        return _varying([moved[:, :1], moved[:, 1:]], mesh), 2
    groups = parse_groups(rest, total)
    if groups is None:
        return (UNKNOWN,), total
    if groups.max() >= total:
        return (UNKNOWN,), groups.shape[1]
    return _varying([groups[:, i : i + 1] for i in range(groups.shape[1])], mesh), groups.shape[1]


def _varying(members: Sequence[np.ndarray], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Axes along which members of the same group differ; `members`: the first of every group, the second, ..."""
    shape = tuple(mesh.values())
    first = np.stack(np.unravel_index(members[0], shape))
    differs = np.zeros(len(shape), bool)
    for one in members[1:]:
        differs |= (np.stack(np.unravel_index(one, shape)) != first).any(axis=(1, 2))
    return tuple(name for name, differ in zip(mesh, differs, strict=True) if differ)


def parse_groups(attributes: str, devices: int) -> np.ndarray | None:
    """[groups, members] of `replica_groups=`, in any of XLA's three forms; None: not to be read. `{}` is all of them.

    `{{0,1},{2,3}}`; `[2,2]<=[4]`, `[2,2]<=[2,2]T(1,0)`; `mesh['a'=2,'b'=2] {'b'}`, perhaps with device_ids=(...).
    """
    listed = re.search(r"replica_groups=\{(\{[\d,{}\s]*\})?\}", attributes)
    if listed:
        if not listed[1]:
            return np.arange(devices)[None]
        groups = [[int(n) for n in one.split(",")] for one in re.findall(r"\{([\d,\s]+)\}", listed[1])]
        return np.array(groups) if len({len(one) for one in groups}) == 1 else None
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if iota:
        return _iota(iota[2], iota[3]).reshape(_numbers(iota[1]))
    named = re.search(r"replica_groups=mesh\[([^\]]*(?:\[[^\]]*\][^\]]*)*)\]\s*\{([^}]*)\}", attributes)
    return _of_named(named[1], named[2]) if named else None


def _of_named(mesh: str, axes: str) -> np.ndarray | None:
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
    devices = np.arange(math.prod(sizes.values()))
    if order := re.search(r"device_ids=\(?\[([\d,]+)\](?:<=\[([\d,]+)\])?(?:T\(([\d,]+)\))?", mesh):
        devices = (
            _iota(order[2] or order[1], order[3]).reshape(-1) if order[2] else np.array(_numbers(order[1]))
        )
    elif "device_ids" in mesh:
        return None
    parts = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes)
    shape, chosen = list[int](), list[int]()
    for name, size in sizes.items():
        part = next(((int(p), int(n)) for axis, p, n in parts if axis == name and p), None)
        split = [part[0], part[1], size // (part[0] * part[1])] if part else [size]
        if any(axis == name for axis, _, _ in parts):
            chosen.append(len(shape) + (1 if part else 0))
        shape += split
    if devices.size != math.prod(shape):
        return None
    others = [i for i in range(len(shape)) if i not in chosen]
    members = math.prod(shape[i] for i in chosen)
    return devices.reshape(shape).transpose(*others, *chosen).reshape(-1, members)


def _iota(shape: str, order: str | None) -> np.ndarray:
    sizes = _numbers(shape)
    made = np.arange(math.prod(sizes)).reshape(sizes)
    return made.transpose(_numbers(order)) if order else made


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",") if n]
