"""The model card of an exported folder, and what a check adds to it. In: a model, a check. Out: README.md, check.json.

A folder that came with a card, or is a Hugging Face folder, has its own; the table of the check is added to that.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Sequence

from jaxlm.exchange.stored import Stored
from jaxlm.export.difference import Difference

_BEGIN, _END = "<!-- checked -->", "<!-- /checked -->"


def text(found: Stored, name: str, what_for: str) -> str:
    """The card of a folder without one."""
    trained = f"trained with jaxlm, step {found.step}" if found.run else "converted with jaxlm"
    front = ["---", "tags:", "- jaxlm", f"- {name}", "---", ""]
    title = f"# {type(found.config).__name__} as {name}"
    return "\n".join([*front, title, "", f"For {what_for}; {trained}.", ""])


def keep(target: pathlib.Path, found: Sequence[Difference]) -> None:
    """Writes check.json, and the table into README.md in place of that of an earlier check."""
    told = [dataclasses.asdict(one) | {"largest": float(one.largest), "fine": one.fine} for one in found]
    (target / "check.json").write_text(json.dumps(told, indent=1) + "\n")
    readme = target / "README.md"
    before = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before = re.sub(rf"\n*{_BEGIN}.*?{_END}\n*", "\n", before, flags=re.DOTALL)
    readme.write_text(before.rstrip() + "\n\n" + table(found) + "\n", encoding="utf-8")


def table(found: Sequence[Difference]) -> str:
    """Markdown between markers."""
    rows = [
        f"| {one.engine} | {one.what} | {one.largest:.2g} | {one.allowed:.2g} | {'yes' if one.fine else 'NO'} |"
        for one in found
    ]
    head = [
        "## Checked",
        "",
        "| engine | what | largest difference | allowed | fine |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([_BEGIN, *head, *rows, _END])
