"""The page. In: runs. Out: HTML that holds all it needs."""

import importlib.resources
import time
from collections.abc import Callable, Sequence

from jaxlm.report import curves, figures, rows, samples, settings
from jaxlm.report.markup import Child, Markup, tag
from jaxlm.report.plot import COLOURS, Mark, Sheet, plot
from jaxlm.report.scale import Scale
from jaxlm.report.settings import scrolled
from jaxlm.report.told import Told


def page(runs: Sequence[Told]) -> str:
    """All of it."""
    title = " · ".join(run.name for run in runs)
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – jaxlm"),
        tag("style", Markup(_file("page.css"))),
    )
    sections = [
        _overview(runs),
        _curves(runs),
        _section("Settings that differ" if len(runs) > 1 else "Settings", settings.section(runs)),
        _each("Samples", "what the model made of its texts, by step", runs, samples.section),
        _each("Rows", "as the model saw them", runs, rows.section),
        _section("Environment", _environment(runs)),
    ]
    main = tag("main", tag("p", "jaxlm report", class_="kicker"), _cards(runs), sections)
    footer = tag("footer", f"Made by jaxlm report on {time.strftime('%Y-%m-%d at %H:%M')}.")
    body = tag("body", main, footer, tag("script", Markup(_file("page.js"))))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _file(name: str) -> str:
    return importlib.resources.files("jaxlm.report").joinpath(name).read_text(encoding="utf-8")


def _section(title: str, content: Child, note: str = "") -> Markup:
    return tag("section", tag("h2", title, tag("small", note) if note else None), content)


def _each(title: str, note: str, runs: Sequence[Told], made: Callable[[Told], Child]) -> Markup:
    """A section with a part for every run; of one run without its name."""
    if len(runs) == 1:
        return _section(title, made(runs[0]), note)
    parts = [tag("div", tag("h3", _dot(k), run.name), made(run)) for k, run in enumerate(runs)]
    return _section(title, tag("div", parts, class_="parts"), note)


def _dot(number: int) -> Markup:
    return tag("span", class_=f"dot c{number % COLOURS}")


def _cards(runs: Sequence[Told]) -> Markup:
    return tag("div", [_card(k, run) for k, run in enumerate(runs)], class_="cards")


def _card(number: int, run: Told) -> Markup:
    kind, text = figures.state(run)
    parts = [figures.kind(run.config["model"]), figures.kind(run.config["objective"])]
    model = " · ".join([*parts, f"{figures.parameters(run)} parameters"])
    told = [
        tag("div", tag("dt", what), tag("dd", value, tag("small", beside)))
        for what, value, beside in figures.headline(run)
    ]
    return tag(
        "header",
        tag("h1", _dot(number), run.name, " ", tag("span", text, class_=f"state {kind}")),
        tag("p", model, class_="quiet"),
        tag("dl", told, class_="figures"),
        class_="card",
    )


def _overview(runs: Sequence[Told]) -> Markup:
    return _section("At a glance", _side_by_side(runs, [figures.overview(run) for run in runs]))


def _side_by_side(runs: Sequence[Told], facts: Sequence[dict[str, str]]) -> Markup:
    """A fact a line, a run a column."""
    names = dict.fromkeys(name for one in facts for name in one)
    head = tag("thead", tag("tr", tag("th"), [tag("th", _dot(k), run.name) for k, run in enumerate(runs)]))
    lines = [
        tag("tr", tag("th", name, scope="row"), [tag("td", one.get(name, figures.NONE)) for one in facts])
        for name in names
    ]
    return scrolled(tag("table", head if len(runs) > 1 else None, tag("tbody", lines), class_="facts"))


def _curves(runs: Sequence[Told]) -> Markup:
    x = Scale(0.0, max(run.lines[-1]["step"] for run in runs) or 1)
    marks = [mark for mark in _marks(runs) if 0 < mark.step <= x.high]
    sheet = Sheet(x=x, names=[run.name for run in runs], marks=marks)
    main, others = curves.all_curves(runs)
    drawn = [plot(curve, sheet, k, big=k == 0) for k, curve in enumerate(main)]
    rest = [plot(curve, sheet, len(main) + k) for k, curve in enumerate(others)]
    folded = tag("details", tag("summary", f"{len(rest)} other metrics"), tag("div", rest, class_="plots"))
    return _section("Curves", [_legend(runs), tag("div", drawn, class_="plots"), folded if rest else None])


def _legend(runs: Sequence[Told]) -> Markup:
    named = [tag("span", _dot(k), run.name) for k, run in enumerate(runs)]
    kinds = [
        tag("span", tag("b", class_=kind), text)
        for kind, text in (("train", "training"), ("heldout", "held out"))
    ]
    return tag("p", named if len(runs) > 1 else None, kinds, class_="legend")


def _marks(runs: Sequence[Told]) -> list[Mark]:
    """What happened to runs, once where it is the same in all."""
    found: list[Mark] = []
    for number, run in enumerate(runs):
        lengths = [stage["length"] for stage in run.config["stages"]]
        happened = [(step, f"stage {k + 1}: {lengths[k]} tokens") for k, step in enumerate(run.stages()) if k]
        happened += [(step, "resumed") for step in sorted(set(run.log.resumed))]
        happened += [
            (first, f"without {first:,} to {last:,}") for first, last in run.config.get("exclude", [])
        ]
        happened += [(run.lines[-1]["step"], "diverged")] if figures.state(run)[0] == "diverged" else []
        found += [Mark(step, text, number) for step, text in happened]
    everywhere = lambda mark: sum((m.step, m.text) == (mark.step, mark.text) for m in found) == len(runs)
    shared = [Mark(mark.step, mark.text) if everywhere(mark) else mark for mark in found]
    return sorted(dict.fromkeys(shared), key=lambda mark: mark.step)


def _environment(runs: Sequence[Told]) -> list[Markup]:
    return [
        _side_by_side(runs, [_machine(run) for run in runs]),
        *[_starts(run) for run in runs if run.starts],
    ]


def _machine(run: Told) -> dict[str, str]:
    last = run.starts[-1] if run.starts else {}
    named = {name: str(last[key]) for name, key in _MACHINE.items() if last.get(key) not in (None, "")}
    facts = {name: run.log.facts[name] for name in _FACTS if name in run.log.facts}
    packages = ", ".join(f"{name} {version}" for name, version in figures.versions(run).items())
    variables = last.get("variables", {})
    return {
        **named,
        **facts,
        "packages": packages or figures.NONE,
        **variables,
        "folder": str(run.folder.absolute()),
    }


_MACHINE = {"host": "host", "hosts": "processes", "system": "system", "cores": "cores", "python": "python"}
_FACTS = (
    "devices",
    "precision",
    "attention",
    "compiler",
    "memory per device",
    "FLOPs per step",
    "checkpoint",
)


def _starts(run: Told) -> Markup:
    lines = [
        tag(
            "tr",
            tag("td", start.get("at")),
            tag("td", f"{start.get('step', 0):,}"),
            tag("td", tag("code", start.get("command"))),
        )
        for start in run.starts
    ]
    head = tag("thead", tag("tr", tag("th", "start"), tag("th", "after step"), tag("th", "command")))
    return tag(
        "details",
        tag("summary", f"How {run.name} was started"),
        scrolled(tag("table", head, tag("tbody", lines), class_="fine")),
    )
