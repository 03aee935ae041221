"""A picture of what a terminal shows. In: text on stdin. Out: an SVG file, without fonts or anything else from outside.

cut -c21- runs/quickstart/run.log | head -30 | python tools/draw_terminal.py docs/images/quickstart.svg jaxlm
"""

import io
import re
import sys
from collections.abc import Sequence

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

_WIDTH = 104  # columns


def draw(text: str, title: str) -> str:
    """The SVG; what follows a dollar sign is bold, what is cut is dim."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    for line in text.rstrip("\n").split("\n"):
        styled = Text(line, style="bold" if line.startswith("$ ") else "dim" if line.strip() == "..." else "")
        styled.highlight_regex(r"\d[\d.,]*%?", "cyan")
        console.print(styled)
    plain = re.sub(r"@font-face \{.*?\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title=title, code_format=plain)


def main(argv: Sequence[str]) -> int:
    """Writes the picture."""
    _, path, title = argv
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(draw(sys.stdin.read(), title))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
