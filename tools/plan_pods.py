"""The table of docs/scale.md: shipped recipes planned on pods, each compiled for it. Needs libtpu, no TPU.

    python tools/plan_pods.py            # prints it, line by line; --write puts it into docs/scale.md, --from=N skips

A compilation takes 10 seconds to 3 minutes and up to 5 GiB.
"""

import datetime
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from jaxlm.errors import UserError  # noqa: E402
from jaxlm.monitor.console import duration  # noqa: E402
from jaxlm.monitor.preflight import gib  # noqa: E402
from jaxlm.planning import planned, targets  # noqa: E402

PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- written by tools/plan_pods.py -->", "<!-- end -->"
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
HEAD = (
    "| run | on | rows x tokens | peak, compiled (estimated) of | step, bound by | MFU | to the end | compiled in |\n"
    "|---|---|---|---|---|---|---|---|"
)


def rows(target: str, words: str) -> list[str]:
    """A line for every row length, or one that says why not."""
    recipe, _, changed = words.partition(" ")
    try:
        plan = planned.of(words.split(), targets.parse(target))
    except UserError as error:
        said = str(error).partition("\n")[0]
        return [f"| `{recipe}` {changed} | {target} | | {said} | | | | |"]
    lines = []
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


def _first() -> int:
    return next((int(word.partition("=")[2]) for word in sys.argv if word.startswith("--from=")), 0)


def main() -> None:
    """Prints, and with --write writes."""
    lines = [HEAD]
    print(HEAD, flush=True)
    for target, words in PODS[_first() :]:
        for line in rows(target, words):
            print(line, flush=True)
            lines.append(line)
    if "--write" in sys.argv:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        made = "\n".join([BEGIN, "", *lines, "", f"Of {datetime.date.today()}.", "", END])
        PAGE.write_text(before + made + after)


if __name__ == "__main__":
    main()
