"""A compiled program as text, taken apart. In: `compiled.as_text()`. Out: what runs, and how often.

Loop bodies count as often as their loop runs: XLA's own cost analysis counts them once. Guarantee: a loop whose rounds
the text does not tell counts once and is listed in `Module.unknown`.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_SIZES = {"pred": 1, "s4": 0.5, "u4": 0.5, "bf16": 2, "token": 0, "opaque": 0, "c64": 8, "c128": 16}
_CONTROL = ("while", "conditional", "call", "async-start")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line."""

    name: str
    type: str
    opcode: str
    operands: tuple[str, ...]
    rest: str  # attributes, behind the operands
    root: bool
    literal: str = ""  # what stands between the parentheses

    def called(self, key: str) -> str | None:
        """The computation that an attribute names."""
        found = re.search(rf"\b{key}=%?([\w.\-]+)", self.rest)
        return found[1] if found else None

    @property
    def cycles(self) -> int:
        """The TPU compiler's estimate, 0 where it has none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(found[1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Executed:
    """An instruction, and how often a step runs it."""

    what: Instruction
    times: int
    computation: str
    fused: bool  # inside a fusion


@dataclasses.dataclass(frozen=True)
class Module:
    """The computations of a program by name."""

    computations: dict[str, dict[str, Instruction]]
    entry: str
    unknown: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> "Module":
        """ValueError for what is no compiled program."""
        computations: dict[str, dict[str, Instruction]] = {}
        entry, current = "", None
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = computations[head[2]] = {}
                entry = head[2] if head[1] else entry
            elif current is not None and (found := _LINE.match(line)):
                one = _instruction(found[2], found[3], root=bool(found[1]))
                if one is not None:
                    current[one.name] = one
        if not entry:
            raise ValueError("no ENTRY computation: this is not the text of a compiled program.")
        return cls(computations, entry)

    def executed(self) -> Iterator[Executed]:
        """Every instruction that runs, in its computation; those of fusions too, marked."""
        yield from self._walk(self.entry, 1, fused=False)

    def _walk(self, name: str, times: int, *, fused: bool) -> Iterator[Executed]:
        for one in self.computations.get(name, {}).values():
            yield Executed(one, times, name, fused)
            if one.opcode == "while":
                rounds = self._rounds(one)
                yield from self._walk(one.called("body") or "", times * rounds, fused=fused)
            elif one.opcode == "conditional":
                for branch in _branches(one):
                    yield from self._walk(branch, times, fused=fused)
            elif one.opcode in ("call", "async-start"):
                inner = one.called("to_apply") or one.called("calls") or ""
                yield from self._walk(inner, times, fused=fused)
            elif one.opcode == "fusion":
                yield from self._walk(one.called("calls") or "", times, fused=True)

    def _rounds(self, loop: Instruction) -> int:
        known = re.search(r'"?known_trip_count"?:\{"n":"(\d+)"', loop.rest)
        found = int(known[1]) if known else self._limit(loop.called("condition") or "")
        if found is None:
            self.unknown.append(loop.name)
        return 1 if found is None else found

    def _limit(self, condition: str) -> int | None:
        """What the counter of a scan is compared with: the largest constant in the condition."""
        seen = [condition, *filter(None, (i.called("calls") for i in self._of(condition)))]
        numbers = [
            int(one.literal)
            for name in seen
            for one in self._of(name)
            if one.opcode == "constant" and re.fullmatch(r"\d+", one.literal)
        ]
        return max(numbers, default=None)

    def _of(self, name: str) -> list[Instruction]:
        return list(self.computations.get(name, {}).values())

    def cycles(self) -> int:
        """The compiler's estimates of a step, summed."""
        return sum(e.times * e.what.cycles for e in self.executed() if not e.fused)

    def hbm_bytes(self) -> int:
        """Bytes that a step reads and writes in the device's memory; of what is sliced, the slice."""
        return round(sum(e.times * self._bytes(e) for e in self.executed() if not e.fused))

    def heaviest(self, most: int) -> list[tuple[str, int]]:
        """(name, bytes in a step) of those that read and write most."""
        found: dict[str, float] = {}
        for e in self.executed():
            if not e.fused:
                found[e.what.name] = found.get(e.what.name, 0.0) + e.times * self._bytes(e)
        return [(name, round(size)) for name, size in sorted(found.items(), key=lambda one: -one[1])[:most]]

    def _bytes(self, executed: Executed) -> float:
        one = executed.what
        if one.opcode in _FREE or one.opcode in _CONTROL or one.opcode.endswith("-done"):
            return 0
        if one.opcode.endswith("-start"):  # what is copied stands in the result, beside where it goes
            return array_bytes(one.type, hbm_only=True)
        if one.opcode == "dynamic-slice":
            return 2 * array_bytes(one.type, hbm_only=True)
        scope = self.computations[executed.computation]
        if one.opcode == "dynamic-update-slice":
            return (
                2 * array_bytes(scope[one.operands[1]].type, hbm_only=True) if one.operands[1] in scope else 0
            )
        read = [self._read(one, i, scope[o].type) for i, o in enumerate(one.operands) if o in scope]
        return sum(read) + self._written(one)

    def _read(self, one: Instruction, number: int, kind: str) -> float:
        """Bytes that are read of an operand: where slices are all that a fusion takes of it, those."""
        whole = array_bytes(kind, hbm_only=True)
        if one.opcode != "fusion" or not whole:
            return whole
        inner = self.computations.get(one.called("calls") or "", {})
        given = next(
            (i for i in inner.values() if i.opcode == "parameter" and i.literal == str(number)), None
        )
        return whole if given is None else min(whole, self._taken(inner, given, whole))

    def _taken(self, inner: dict[str, Instruction], given: Instruction, whole: float) -> float:
        total = 0.0
        for user in [i for i in inner.values() if given.name in i.operands]:
            if user.opcode in _TAKES_PARTS and user.operands[0] == given.name:
                total += 0 if user.opcode == _IN_PLACE else array_bytes(user.type)
            elif user.opcode == "bitcast":
                total += self._taken(inner, user, whole)
            elif user.opcode == "fusion":
                total += sum(
                    self._read(user, i, given.type) for i, o in enumerate(user.operands) if o == given.name
                )
            else:
                return whole
        return total

    def _written(self, one: Instruction) -> float:
        """Bytes that are written: of an array that a fusion updates in place, the update."""
        whole = array_bytes(one.type, hbm_only=True)
        updated, parts = self._updates(one.called("calls") or "") if one.opcode == "fusion" else (0, 0)
        return whole - updated + parts if 0 < updated <= whole else whole

    def _updates(self, name: str) -> tuple[float, float]:
        """(bytes of arrays that a fusion updates in place, of what it puts into them)."""
        inner = self.computations.get(name, {})
        found = [(0.0, 0.0)]
        for one in inner.values():
            if one.opcode == _IN_PLACE and one.operands[1] in inner:
                found.append((array_bytes(one.type), array_bytes(inner[one.operands[1]].type)))
            elif one.opcode == "fusion":
                found.append(self._updates(one.called("calls") or ""))
        return sum(whole for whole, _ in found), sum(part for _, part in found)


_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "partition-id", "replica-id", "iota",
    "after-all", "domain", "opt-barrier", "optimization-barrier",
}  # fmt: skip


_IN_PLACE = "dynamic-update-slice"
_TAKES_PARTS = ("dynamic-slice", "gather", _IN_PLACE)


@functools.lru_cache(maxsize=65536)
def array_bytes(kind: str, *, hbm_only: bool = False) -> float:
    """Of a type, `f32[8,128]{1,0:T(8,128)}` or a tuple of such; `hbm_only`: without what is in another memory."""
    return sum(
        size for size, layout in _arrays(kind) if not (hbm_only and re.search(r"S\([1-9]\d*\)", layout))
    )


def _arrays(kind: str) -> Iterator[tuple[float, str]]:
    for name, shape, layout in _ARRAY.findall(kind):
        bits = re.search(r"\d+", name)
        size = _SIZES.get(name, int(bits[0]) / 8 if bits else 0)
        yield size * math.prod(int(n) for n in shape.split(",") if n), layout


def largest_array(kind: str) -> float:
    """Bytes of the largest array of a type."""
    return max((size for size, _ in _arrays(kind)), default=0)


def _branches(one: Instruction) -> list[str]:
    several = re.search(r"branch_computations=\{([^}]*)\}", one.rest)
    if several:
        return re.findall(r"[\w.\-]+", several[1])
    return [name for key in ("true_computation", "false_computation") if (name := one.called(key))]


def _instruction(name: str, text: str, *, root: bool) -> Instruction | None:
    kind, text = _balanced(text) if text.startswith("(") else _word(text)
    found = re.match(r"\s*([a-z][\w\-]*)(?=\()", text)
    if not found:
        return None
    inside, rest = _balanced(text[found.end() :])
    names = tuple(re.findall(r"%([\w.\-]+)", inside))
    return Instruction(name, kind, found[1], names, rest, root, inside[1:-1])


def _word(text: str) -> tuple[str, str]:
    head, _, rest = text.partition(" ")
    return head, rest


def _balanced(text: str) -> tuple[str, str]:
    """(up to the parenthesis that closes the first, the rest)."""
    depth = 0
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return text[: found.end()], text[found.end() :]
    return text, ""
