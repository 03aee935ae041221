"""What a model wrote, or filled in, as it was trained. In: samples/step-N.txt. Out: under every text, step by step."""

import re
from collections.abc import Sequence
from typing import TypeAlias

from jaxlm.report.markup import Markup, tag, with_holes
from jaxlm.report.told import Told

_MOST = 6  # steps: the first, the newest, and some between
_CANDIDATE = re.compile(r"(.+) (\d+(?:\.\d+)?)%")
Block: TypeAlias = tuple[str, list[str]]  # a text, and what was made of it


def section(run: Told) -> Markup:
    """Of one run."""
    if not run.samples:
        why = "its recipe asks for none (`fill`, `generate`), or nothing was evaluated yet"
        return tag("p", f"There are no samples: {why}.", class_="quiet")
    steps = _chosen(list(run.samples))
    found = [blocks(run.samples[step]) for step in steps]
    texts = [[head for head, _ in one] for one in found]
    if any(heads != texts[-1] for heads in texts):  # the recipe's sentences changed on the way
        steps, found = steps[-1:], found[-1:]
    return tag("dl", [_progress(k, steps, found) for k in range(len(found[-1]))], class_="samples")


def blocks(text: str) -> list[Block]:
    """Lines that are indented belong to the lines above them that are not."""
    found: list[Block] = []
    for line in text.splitlines():
        if line.startswith("    ") and found:
            found[-1][1].append(line[4:])
        elif found and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        else:
            found.append((line, []))
    return found


def _chosen(steps: Sequence[int]) -> list[int]:
    if len(steps) <= _MOST:
        return list(steps)
    last = len(steps) - 1
    return [steps[round(k * last / (_MOST - 1))] for k in range(_MOST)]


def _progress(k: int, steps: Sequence[int], found: Sequence[Sequence[Block]]) -> list[Markup]:
    rows = [
        tag(
            "tr",
            tag("th", f"{step:,}", scope="row"),
            tag("td", map(_line, one[k][1])),
            class_=None if one is found[-1] else "earlier",
        )
        for step, one in zip(steps, found, strict=True)
    ]
    return [tag("dt", with_holes(found[-1][k][0])), tag("dd", tag("table", rows))]


def _line(line: str) -> Markup:
    """What stands for a mask, each with its probability, or a text."""
    candidates = [_CANDIDATE.fullmatch(part) for part in line.split("  ")]
    if not all(candidates):
        return tag("div", line)
    chips = [
        tag(
            "span",
            one[1],
            tag("small", f"{float(one[2]):.0f}%"),
            style=f"background-size:{float(one[2]):.0f}% 100%",
        )
        for one in candidates
        if one
    ]
    return tag("div", chips, class_="chips")
