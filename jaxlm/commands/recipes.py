"""What can be trained: the recipes that come with jaxlm, with their parameters and a line about each.

    jaxlm recipes
    jaxlm recipes bert_base
    jaxlm recipes quickstart > mine.py

Without a name it lists all. With one it prints the file, to be read, or changed and given to `jaxlm train`. Parameters
are those of the run, heads included, without the padding of the vocabulary.
"""

import ast
import pathlib
import re
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.config import recipes
from jaxlm.errors import UserError, did_you_mean


def main(argv: Sequence[str]) -> int:
    """Prints the list, or a file."""
    parser = table.Parser(__name__, __doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the recipe whose file is printed")
    name, known = parser.options(argv).name, recipes.shipped()
    if name is None:
        first = sorted(known, key=lambda one: not one.startswith("quickstart"))
        print("\n".join(_line(*about(known[one])) for one in first))
    elif name in known:
        print(known[name].read_text(encoding="utf-8"), end="")
    else:
        raise UserError(
            f"There is no recipe {name}.{did_you_mean(name, known)} `jaxlm recipes` lists those there are."
        )
    return 0


def about(path: pathlib.Path) -> tuple[str, int, str]:
    """(name, parameters, first line) of a recipe, read from its docstring: a test compares them with the model's."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    count = re.search(r"^Parameters +([\d,]+)", said, re.MULTILINE)
    return path.stem, int(count[1].replace(",", "")) if count else 0, said.partition("\n")[0]


def _line(name: str, count: int, line: str) -> str:
    return f"{name:<28}{_short(count):>6}  {line}"


def _short(count: int) -> str:
    """'124M' of 124,439,808: three digits."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g}{letter}" if count < 999.5 * size else f"{count / size:.0f}{letter}"
    return str(count or "?")


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
