"""Other settings of the same run, in order of their predicted time. In: the words of a run, a target. Out: `Setting`s.

Only what leaves results the same is changed: the mesh, rematerialisation, micro-batches, where moments lie, and of the
fastest the chunks of its loss. The quick model ranks them; the compiler has the last word on those that are shown, with
full effort (`--exact`) on their time as well. Moments in the host's memory come last, since what their way takes is not
known.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jaxlm.config import Run
from jaxlm.errors import UserError
from jaxlm.planning import compiled, described, memory, planned, quick, roofline
from jaxlm.planning.compiled import Step
from jaxlm.planning.planned import Planned
from jaxlm.planning.quick import Quick
from jaxlm.planning.roofline import Times
from jaxlm.planning.targets import Target

# What the quick model calls too large is tried where it is off by less.
_MARGIN = 1.3
_REMAT = ("none", "dots", "attention", "block")  # from what keeps most
_ACCUMULATE = (1, 2, 4, 8, 16)
_MOST_TENSOR = 8  # devices; more than a host's neighbours
_TRIES = 8  # compilations at most
_CHUNK = 1024  # of the loss, where the run's is smaller: the head's gradient is read and written less often


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is changed, and what it leads to."""

    change: dict[str, Any]  # keys of the config
    quick: Quick
    compiled: Step | None = None
    efficiency: float = roofline.EFFICIENCY

    @property
    def words(self) -> tuple[str, ...]:
        """To type behind a command."""
        return tuple(f"--config.{key}={value}" for key, value in self.change.items())

    @property
    def peak(self) -> int:
        """Bytes of a device, compiled or estimated."""
        if self.compiled is None:
            return self.quick.memory.total
        return self.compiled.peak

    @property
    def in_host(self) -> bool:
        """Whether moments lie in the host's memory."""
        return self.quick.memory.host > 0

    @property
    def times(self) -> Times:
        """Of a step, with the compiled one's traffic."""
        return planned.times(self.quick, self.compiled, self.efficiency)

    @property
    def cycles_s(self) -> float | None:
        """Seconds of a step by the compiler's cycles, as `StagePlan.cycles_s`."""
        return planned.cycles_s(self.quick, self.compiled)

    @property
    def seconds(self) -> float:
        """Of a step: by the roofline, and no less than by the compiler's cycles."""
        return max(self.times.step, self.cycles_s or 0.0)

    @property
    def bound(self) -> str:
        """What the step waits for; cycles: for the instructions that the compiler made of it."""
        return "cycles" if self.seconds > self.times.step else self.times.bound


def fitting(words: Sequence[str], plan: Planned, *, most: int = 3) -> list[Setting]:
    """The cheapest changes by which a run fits, `most` of them, each compiled where that can be."""
    return _that_fit(words, plan, ranked(plan, _changes(plan.run, plan.target)), most)


def best(words: Sequence[str], plan: Planned, *, most: int = 3) -> tuple[int, list[Setting]]:
    """(settings that were ranked, the fastest that fit): every mesh, rematerialisation and number of micro-batches."""
    choices = ranked(plan, _everything(plan.run, plan.target))
    found = _that_fit(words, plan, choices, most)
    if found and found[0].cycles_s:
        found = _refined(words, plan, found)
    return len(choices), found[:most]


def ranked(plan: Planned, changes: Iterable[dict[str, Any]]) -> list[Setting]:
    """Those that the target can share and that may fit, the fastest first; of equals the one that changes least."""
    run, target, tight = plan.run, plan.target, plan.stages[plan.tightest]
    stage = described.stages(run)[plan.tightest][0]
    flops = round(tight.quick.model_flops * target.size)
    found, known = [], memory.Known()
    for change in changes:
        try:
            one = quick.of(changed(run, change), target, stage, flops, known, tight.efficiency)
        except UserError:
            continue  # rows or devices that do not divide
        if one.memory.total <= _MARGIN * one.capacity:
            found.append(Setting(change, one, efficiency=tight.efficiency))
    return sorted(found, key=_order)


def _order(one: Setting) -> tuple:
    """Times within 2 % are alike: then what is sure to fit comes before what may, and few large products, which a chip
    computes faster, before many small ones."""
    kinds = {key.rpartition(".")[0] or key for key in one.change}
    network, run = one.quick.times.bounds["network"], one.quick.program.run
    time, again = float(f"{one.quick.times.step:.2g}"), _REMAT.index(one.change.get("model.remat", "none"))
    work = (run.accumulate, network, again)
    return (one.in_host, time, not one.quick.fits, len(kinds), *work, one.quick.memory.total)


def changed(run: Run, change: dict[str, Any]) -> Run:
    """The run with other values of `model.remat`, `accumulate`, `objective.chunk` and `mesh.AXIS`."""
    mesh = {key.partition(".")[2]: value for key, value in change.items() if key.startswith("mesh.")}
    model, objective = run.model, run.objective
    if "model.remat" in change:
        model = dataclasses.replace(model, remat=change["model.remat"])
    if "objective.chunk" in change:
        objective = dataclasses.replace(objective, chunk=change["objective.chunk"])
    return dataclasses.replace(
        run,
        model=model,
        objective=objective,
        mesh=dataclasses.replace(run.mesh, **mesh),
        accumulate=change.get("accumulate", run.accumulate),
    )


def _that_fit(words: Sequence[str], plan: Planned, choices: Sequence[Setting], most: int) -> list[Setting]:
    """A setting by which the compiler fails or crashes is ruled out, with all that change more than it; so is what is
    kept for the backward pass by which it did twice (libtpu 0.0.42: BERT-base on v6e with "dots")."""
    if planned.why_not(plan.target) or not plan.stages[0].compiled:
        return [one for one in choices if one.quick.fits][:most]
    found, tries, crashed, kept = list[Setting](), 0, list[set[str]](), collections.Counter[str]()
    for one in choices:
        if tries == _TRIES or len(found) == most:
            break
        remat = one.change.get("model.remat", "")
        if any(those <= set(one.words) for those in crashed) or kept[remat] == 2:
            continue
        tries += 1
        try:
            step = compiled.step([*words, *one.words], plan.target, plan.tightest, exact=plan.exact)
        except UserError:
            crashed.append(set(one.words))
            kept[remat] += 1
            continue
        if step.fits:
            found.append(dataclasses.replace(one, compiled=step))
    return sorted(found, key=_speed)


def _speed(one: Setting) -> tuple[bool, float]:
    return one.in_host, one.seconds


def _changes(run: Run, target: Target) -> Iterator[dict[str, Any]]:
    """One thing or two at a time, from what costs least."""
    slices = target.slices if target.generation.platform == "tpu" else 1
    remats = [
        {"model.remat": name}
        for name in _REMAT[1:]
        if hasattr(run.model, "remat") and name != run.model.remat
    ]
    micro = [
        {"accumulate": run.accumulate * n}
        for n in _ACCUMULATE[1:]
        if run.batch_size % (run.accumulate * n) == 0
    ]
    split = {"mesh.data": slices, "mesh.fsdp": -1, "mesh.tensor": 1}
    meshes = (
        [] if run.mesh.fsdp == -1 else [{k: v for k, v in split.items() if getattr(run.mesh, k[5:]) != v}]
    )
    yield from [*remats, *micro, *meshes]
    for one, other in itertools.combinations([remats, micro, meshes], 2):
        yield from (a | b for a, b in itertools.product(one, other))
    yield from (a | b | c for a, b, c in itertools.product(remats, micro, meshes))
    host = {"mesh.optimizer_memory": "host"}
    yield from (
        [] if run.mesh.optimizer_memory == "host" else [host, *(host | one for one in [*remats, *meshes])]
    )


def _everything(run: Run, target: Target) -> Iterator[dict[str, Any]]:
    slices = target.slices if target.generation.platform == "tpu" else 1
    inner = target.size // slices
    heads = getattr(run.model, "kv_heads", None) or getattr(run.model, "heads", 1)
    powers = lambda n: [k for k in range(1, n + 1) if n % k == 0]
    remats = _REMAT if hasattr(run.model, "remat") else ("",)
    for tensor in (k for k in powers(inner) if k <= _MOST_TENSOR and heads % k == 0):
        for fsdp in powers(inner // tensor):
            mesh = {"mesh.data": target.size // tensor // fsdp, "mesh.fsdp": fsdp, "mesh.tensor": tensor}
            for remat, accumulate in itertools.product(remats, _ACCUMULATE):
                yield mesh | ({"model.remat": remat} if remat else {}) | {"accumulate": accumulate}


def _refined(words: Sequence[str], plan: Planned, found: list[Setting]) -> list[Setting]:
    """From the fastest one change after another, as long as the compiler's cycles become fewer by it: what the quick
    model cannot know, such as which arrays a chip keeps beside its units."""
    known = [one.change for one in found]
    for _ in range(_TRIES):
        change = next((one for one in _near(plan.run, found[0].change) if one not in known), None)
        if change is None:
            break
        known.append(change)
        found = sorted(found + _that_fit(words, plan, ranked(plan, [change]), 1), key=_speed)
    return found


def _near(run: Run, change: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One step away along each dimension."""
    of_rows = change["accumulate"]
    yield from (
        change | {"accumulate": n} for n in (2 * of_rows, of_rows // 2) if n and run.batch_size % n == 0
    )
    if (split := change.get("mesh.fsdp", 1)) > 1:  # whole copies spare their gathers
        yield change | {"mesh.data": change["mesh.data"] * split, "mesh.fsdp": 1}
    if (chunk := getattr(run.objective, "chunk", 0)) and change.get("objective.chunk", chunk) < _CHUNK:
        yield change | {"objective.chunk": _CHUNK}
    if (remat := change.get("model.remat")) in _REMAT:
        at = _REMAT.index(remat)
        yield from (
            change | {"model.remat": name}
            for name in (*_REMAT[at + 1 : at + 2], *_REMAT[max(at - 1, 0) : at])
        )
