"""Does a run fit on a machine that is not here, what would it cost, and how would it be laid out?

    jaxlm plan bert_base --target=v5e-8
    jaxlm plan llama_7b --target=v5e-256 --price=1.2 --chart=memory.svg
    jaxlm plan llama2_70b --target=2xv5p-512 --config.batch_size=2048 --exact
    jaxlm plan llama3_8b --target=h100-64 --search

Compiles the real training step for the chips of a TPU, which need not be there (the extra `tpu`), and prints memory,
network and a roofline of its time. For GPUs, or with --estimate, shapes alone say it. Reads neither corpus nor
tokenizer. All options of `jaxlm train` are taken. Exit code 0: it fits; 78: it does not, and what would is printed.
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, EXIT_USER, UserError

_VALUES = ("--target", "--slices", "--price", "--efficiency", "--chart")
_SWITCHES = ("--exact", "--estimate", "--search", "--json")


def main(argv: Sequence[str]) -> int:
    """Prints the plan, or --json."""
    own, words = table.apart(argv[1:], _VALUES, _SWITCHES)
    options = _options([argv[0], *own])

    from jaxlm.planning import planned, search, targets  # after parsing, so that --help answers at once
    from jaxlm.planning import table as shown

    target = targets.parse(options.target, options.slices)
    plan = planned.of(
        words, target, exact=options.exact, compile_it=not options.estimate, efficiency=options.efficiency
    )
    ranked, settings = 0, []
    if options.search:
        ranked, settings = search.best(words, plan)
    elif not plan.fits:
        settings = search.fitting(words, plan)
    if options.json:
        found = planned.as_json(plan) | {"settings": [_as_json(one) for one in settings]}
        print(table.as_json(found), flush=True)
    else:
        print(shown.text(plan, options.price), flush=True)
        print("".join(f"\n{line}" for line in _lines(settings, ranked, plan.fits)), end="", flush=True)
    if options.chart:
        _write(shown.chart(plan), options.chart)
    return EXIT_DONE if plan.fits else EXIT_USER


def _lines(settings: Sequence[Any], ranked: int, fits: bool) -> list[str]:
    """What to type instead."""
    if not settings:
        return (
            []
            if fits and not ranked
            else ["Nothing that was tried fits: more chips, or a smaller batch or model.\n"]
        )
    head = f"The fastest that fit, of {ranked} settings:" if ranked else "What would fit, the fastest first:"
    return [head, *(f"  {_line(one)}" for one in settings), ""]


def _line(one: Any) -> str:
    from jaxlm.monitor.preflight import gib

    how = "compiled" if one.compiled else "estimated"
    return f"{' '.join(one.words)}  ({gib(one.peak)} {how}, {one.seconds:.3g} s a step, {one.bound})"


def _as_json(one: Any) -> dict[str, Any]:
    compiled = one.compiled is not None
    return {"words": list(one.words), "peak": one.peak, "compiled": compiled, "step_s": one.seconds}


def _write(drawing: Any, to: pathlib.Path) -> None:
    if to.suffix == ".html":
        to.write_text(f"<!doctype html><title>{drawing.title}</title>{drawing.svg()}\n", encoding="utf-8")
        return
    made = drawing.write(to.parent, to.stem)
    if to.name not in made:
        raise UserError(f"--chart={to}: matplotlib is not installed; {made[0]} was written beside it.")


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = table.Parser(__name__, __doc__)
    add = parser.add_argument
    add("--target", required=True, metavar="NAME", help="machine, as it is ordered: v5e-256, v5p-128, h100-8")
    add("--slices", type=int, default=1, metavar="N", help="TPU slices of that size; also written 2xv5e-256")
    add("--exact", action="store_true", help="full effort of the compiler: minutes, and its cycles")
    add("--estimate", action="store_true", help="compile nothing: shapes and a roofline, in seconds")
    add("--efficiency", type=_share, default=0.0, metavar="X", help="share of the peak that compute reaches")
    add("--price", type=float, metavar="X", help="of a chip-hour, for the cost of the run")
    add("--search", action="store_true", help="also rank other meshes, remat and accumulate")
    add("--chart", type=_picture, metavar="FILE", help="memory as bars: .svg, .png or .html")
    add("--json", action="store_true", help="all of it as a line of JSON")
    found = parser.options(argv)
    if found.slices < 1:
        raise UserError(f"--slices={found.slices}: at least 1.")
    if not found.efficiency:
        from jaxlm.planning.roofline import EFFICIENCY

        found.efficiency = EFFICIENCY
    return found


def _share(text: str) -> float:
    if not 0.0 < float(text) <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}: above 0, at most 1")
    return float(text)


def _picture(text: str) -> pathlib.Path:
    path = pathlib.Path(text).expanduser()
    if path.suffix not in (".svg", ".png", ".html") or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: a .svg, .png or .html in a folder that exists")
    return path


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
