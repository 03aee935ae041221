"""A plan for people. In: `Planned`. Out: text, and a drawing of the memory. Guarantee: pure formatting."""

from collections.abc import Sequence

from jaxlm.monitor.console import duration, human
from jaxlm.monitor.preflight import columns, gib
from jaxlm.planning.planned import Planned, StagePlan
from jaxlm.report.drawing import BLUE, INK, RED, Box, Drawing, Line, Text
from jaxlm.training import report

_BUFFERS = 5
_COLOURS: dict[str, str] = {
    "parameters": BLUE,
    "optimizer": "#6f9bea",
    "averages": "#a8c2f3",
    "frozen": "#c9d2e0",
    "batch": "#888888",
    "gradients": RED,
    "activations": "#e28b97",
    "working": "#efc1c8",
    "temporaries": "#b0653a",
}
_PARTS = tuple(_COLOURS)[:-1]
_HELD = _PARTS[:5]


def text(planned: Planned, price: float | None = None) -> str:
    """The whole table; `price` of a chip-hour."""
    axes = report.axes(planned.stages[0].quick.program)
    lines = [f"{planned.name} on {planned.target}; mesh {axes}", *columns(_head(planned))]
    for one in planned.stages:
        steps = "" if one.steps is None else f"{one.steps:,} steps of "
        lines += ["", f"{steps}{one.rows:,} rows of {one.length:,} tokens", *columns(_stage(one))]
    return "\n".join([*lines, "", *columns(_whole(planned, price))])


def _head(planned: Planned) -> list[tuple[str, str]]:
    chip, step = planned.target.chip, planned.stages[0].compiled
    rates = f"peak {human(chip.peak)}FLOP/s in bfloat16"
    if chip.memory and chip.bandwidth:
        rates += f", {gib(chip.memory)} of memory at {human(chip.bandwidth)}B/s"
    how = planned.note
    if step:
        effort = "full effort" if planned.exact else "fast; --exact for full effort"
        seconds = sum(one.compiled.compile_s for one in planned.stages if one.compiled)
        versions = ", ".join(f"{name} {version}" for name, version in step.versions.items())
        how = f"the real step, in {seconds:.0f} s ({effort}){'; ' + versions if versions else ''}"
    return [("a chip", rates), ("compiled", how), ("parameters", human(planned.parameters))]


def _stage(one: StagePlan) -> list[tuple[str, str]]:
    memory, made = one.quick.memory, one.compiled
    rows = [
        ("held", _named(memory, _HELD) + " (exact)"),
        ("within a step", _named(memory, _PARTS[5:]) + " (estimate)"),
    ]
    if made and made.fits:
        rows.append(("temporaries", f"{gib(made.temporaries)} compiled, {gib(_estimated(one))} estimated"))
    if in_host := (made.host if made else 0) or memory.host:
        rows.append(("host", f"{gib(in_host)} of its memory for each device"))
    verdict = "fits" if one.fits else "DOES NOT FIT"
    source = f"compiled, {gib(memory.total)} estimated" if made else "estimated"
    rows.append(("peak", f"{gib(one.peak)} {source}, of {gib(one.capacity)} of a device: {verdict}"))
    if not one.fits:
        largest = ", ".join(f"{kept} {gib(kept.bytes)}" for kept in one.quick.kept[:_BUFFERS])
        rows.append(("largest", f"kept for the backward pass: {largest}"))
    again = one.quick.flops / one.quick.model_flops - 1
    repeated = f", {100 * again:.0f}% more with what is computed again" if again else ""
    rows.append(("FLOPs", f"{human(one.quick.model_flops)} of the model on a device{repeated}"))
    if made and made.fits:
        rows.append(("attention", ", ".join(made.attention)))
        heaviest = ", ".join(f"{name} {human(size)}B" for name, size in made.heaviest)
        rows.append(("HBM", f"{human(made.hbm_bytes)}B read and written; most of it: {heaviest}"))
        rows += [("network" if i == 0 else "", line) for i, line in enumerate(_network(one))]
    return [*rows, *_times(one)]


def _network(one: StagePlan) -> list[str]:
    assert one.compiled is not None
    return [
        f"{c.kind} over {'+'.join(c.axes)} ({c.devices}): {c.count} x, {human(c.bytes)}B"
        for c in one.compiled.collectives
    ] or ["nothing"]


def _times(one: StagePlan) -> list[tuple[str, str]]:
    times = one.times
    idle = one.quick.program.schedule.bubble
    parts = f"compute {_seconds(times.compute)} at {100 * one.efficiency:.0f}% of the peak"
    parts += f" and {100 * idle:.0f}% of it idle" if idle else ""
    parts += f", memory {_seconds(times.memory)}"
    parts += "".join(f", network over {axes} {_seconds(s)}" for axes, s in times.network.items())
    found = [("roofline", f"{_seconds(times.step)} a step ({times.bound}): {parts}")]
    if one.cycles_s:
        share = one.quick.model_flops / (one.cycles_s * one.quick.target.chip.peak)
        attention = one.compiled.attention_cycles / one.compiled.cycles if one.compiled else 0.0
        line = f"{_seconds(one.cycles_s)} a step by the compiler's cycles"
        line += f" and {100 * attention:.0f}% more for attention" if attention else ", without kernels"
        line += ", without network: "
        found.append(("cycles", f"{line}MFU below {100 * share:.0f}%"))
    speed = f"MFU {100 * one.mfu:.0f}%, {human(one.tokens_per_second)} tokens/s"
    return [*found, ("predicted", speed)]


def _whole(planned: Planned, price: float | None) -> list[tuple[str, str]]:
    if planned.days is None:
        return [("time", "not known: the run is measured in epochs of its corpus")]
    hours = planned.chip_hours or 0.0
    cost = "" if price is None else f", {price * hours:,.0f} at {price:g} a chip-hour"
    line = f"{duration(86_400 * planned.days)} to the last step, {hours:,.0f} chip-hours{cost}"
    return [("time", f"{line} (training alone, without evaluations and saves)")]


def _estimated(one: StagePlan) -> int:
    return one.quick.memory.total - one.quick.memory.held


def _named(memory: object, names: Sequence[str]) -> str:
    found = [(name, getattr(memory, name)) for name in names]
    return ", ".join(f"{name} {gib(size)}" for name, size in found if size)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def chart(planned: Planned) -> Drawing:
    """Memory of a device, a bar for each stage: what is held and what lives within a step, beside the capacity."""
    room, width, height = 130.0, 640.0, 34.0
    most = max(max(one.peak, one.capacity if one.capacity < float("inf") else 0) for one in planned.stages)
    most = max(most, *(one.quick.memory.total for one in planned.stages))
    scale = width / most
    shapes: list[Box | Line | Text] = [Text(room, 16, f"{planned.name} on {planned.target.name}", "start")]
    y = 36.0
    for one in planned.stages:
        for name, parts in _bars(one):
            x = room
            shapes.append(Text(room - 8, y + height / 2, name, "end"))
            for part, size in parts:
                shapes.append(Box(x, y, size * scale, height, _COLOURS[part]))
                x += size * scale
            shapes.append(Text(x + 6, y + height / 2, gib(sum(size for _, size in parts)), "start"))
            y += height + 8
        if one.capacity < float("inf"):
            at = room + one.capacity * scale
            shapes.append(Line(at, 30, at, y, RED, dashed=True))
    x = room
    for part in _COLOURS:
        shapes += [
            Box(x, y + 8, 10, 10, _COLOURS[part]),
            Text(x + 14, y + 13, part, "start", INK),
        ]
        x += 26 + 6.5 * len(part)
    return Drawing(f"Memory of a device, {planned.name}", room + width + 90, y + 34, shapes)


def _bars(one: StagePlan) -> list[tuple[str, list[tuple[str, int]]]]:
    memory = one.quick.memory
    bars = [(f"{one.length}, estimate", [(part, getattr(memory, part)) for part in _PARTS])]
    if one.compiled:
        held = [(part, getattr(memory, part)) for part in _HELD]
        bars.append(
            (
                f"{one.length}, compiled",
                [*held, ("temporaries", one.compiled.peak - sum(size for _, size in held))],
            )
        )
    return bars
