"""Two tables of docs/scale.md, each line compiled for its machine. Need libtpu, no TPU.

    python tools/plan_pods.py pods       # shipped recipes on pods, as they are: 10 seconds to 3 minutes a line
    python tools/plan_pods.py sizes      # models of 0.1B to 8B on small machines, as a search sets them: minutes a line

Lines are printed as they come; --write puts them into docs/scale.md, --from=N skips N lines. Up to 5 GiB of memory.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from jaxlm.errors import UserError  # noqa: E402
from jaxlm.monitor.console import duration  # noqa: E402
from jaxlm.monitor.preflight import gib  # noqa: E402
from jaxlm.planning import planned, roofline, search, targets  # noqa: E402
from jaxlm.planning.search import Setting  # noqa: E402

PAGE = ROOT / "docs" / "scale.md"
END = "<!-- end -->"
PODS = (
    ("v5e-8", "bert_base"),
    ("v5e-256", "bert_base"),
    ("v5e-8", "bert_large"),
    ("v5e-256", "bert_large"),
    ("v5e-256", "llama_7b"),
    ("v5p-128", "llama_7b"),
    ("v6e-64", "llama_7b"),
    ("v5p-512", "llama2_70b"),
    ("2xv5p-512", "llama2_70b --config.mesh.data=2"),
    ("v5e-128", "t5_large"),
    ("v5p-128", "mixtral_8x7b"),
)
PODS_HEAD = (
    "| run | on | rows x tokens | peak, compiled (estimated) of | step, bound by | MFU | to the end | compiled in |\n"
    "|---|---|---|---|---|---|---|---|"
)
# Half a million tokens a step, as such models are trained with; encoders as published, but for dropout (T5's kernel).
HALF_A_MILLION = "--config.batch_size=256 --config.stages=(Stage(length=2048,share=1.0),)"
MODELS = (
    *(f"{name} {HALF_A_MILLION}" for name in ("smollm2_135m", "llama3_2_1b", "llama3_8b")),
    "bert_base --config.stages=(Stage(length=512,share=1.0),)",
    "t5_v1_1_base",
    *(f"{name} {HALF_A_MILLION}" for name in ("smollm2_360m", "llama3_2_3b")),
)
MACHINES = ("v5e-8", "v6e-8", "v5p-8", "h100-8")
SIZES = tuple((machine, words) for words in MODELS for machine in MACHINES)
SIZES_HEAD = (
    "| model | on | rows x tokens | mesh, kept, micro-batches, chunk | attention | peak of | step | MFU | bound by |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def as_they_are(target: str, words: str) -> list[str]:
    """A line for every row length."""
    recipe, _, changed = words.partition(" ")
    plan, lines = planned.of(words.split(), targets.parse(target)), []
    for one in plan.stages:
        assert one.compiled is not None
        peak = f"{gib(one.peak)} ({gib(one.quick.memory.total)}) of {gib(one.capacity)}"
        speed = f"{one.times.step:.3g} s, {one.times.bound} | {100 * one.mfu:.0f} %"
        end = duration((one.steps or 0) * one.times.step)
        if not one.fits:
            peak, speed, end = f"{peak}: **does not fit**", " | ", ""
        lines.append(
            f"| `{recipe}` {changed} | {target} | {one.rows} x {one.length} | {peak} | {speed} | {end} "
            f"| {one.compiled.compile_s:.0f} s |"
        )
    return lines


def as_searched(target: str, words: str) -> list[str]:
    """A line of the fastest setting that fits; of TPUs with full effort of the compiler."""
    recipe, machine = words.split()[0], targets.parse(target)
    plan = dataclasses.replace(planned.of(words.split(), machine), exact=True)
    stage = plan.stages[plan.tightest]
    start = f"| `{recipe}` | {target} | {stage.rows} x {stage.length} |"
    _, found = search.best(words.split(), plan, most=1)
    if not found:
        return [f"{start} none fits | | | | | |"]
    best = found[0]
    mfu = roofline.mfu(machine, best.quick.model_flops, best.seconds)
    attention = ", ".join(best.compiled.attention) if best.compiled else "estimated"
    peak = f"{gib(best.peak)} of {gib(best.quick.capacity)}"
    return [
        f"{start} {_told(best)} | {attention} | {peak} | {best.seconds:.3g} s | {100 * mfu:.0f} % | {best.bound} |"
    ]


def _told(one: Setting) -> str:
    axes = [f"{key[5:]} {n}" for key, n in one.change.items() if key.startswith("mesh.") and n > 1]
    rest = [one.change["model.remat"], f"{one.change['accumulate']} micro"]
    chunk = getattr(one.quick.program.run.objective, "chunk", 0)
    return ", ".join([*axes, *rest, f"chunk {one.change.get('objective.chunk', chunk) or 'all'}"])


def lines_of(of: Callable[[str, str], list[str]], target: str, words: str) -> list[str]:
    """Of one case, or a line that says why not."""
    try:
        return of(target, words)
    except UserError as error:
        said = str(error).partition("\n")[0]
        recipe, _, changed = words.partition(" ")
        return [f"| `{recipe}` {changed} | {target} | | {said} | | | | |"]


TABLES = {"pods": (PODS, PODS_HEAD, as_they_are), "sizes": (SIZES, SIZES_HEAD, as_searched)}


def main(argv: list[str]) -> int:
    """Prints, and with --write writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--write", action="store_true", help="into docs/scale.md")
    parser.add_argument(
        "--from", type=int, default=0, dest="first", metavar="N", help="skip N lines of the list"
    )
    options = parser.parse_args(argv[1:])
    cases, head, of = TABLES[options.table]
    lines = [head]
    print(head, flush=True)
    for target, words in cases[options.first :]:
        for line in lines_of(of, target, words):
            print(line, flush=True)
            lines.append(line)
    if options.write:
        begin = f"<!-- written by tools/plan_pods.py {options.table} -->"
        before, _, rest = PAGE.read_text().partition(begin)
        after = rest.partition(END)[2]
        PAGE.write_text(
            before + "\n".join([begin, "", *lines, "", f"Of {datetime.date.today()}.", "", END]) + after
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
