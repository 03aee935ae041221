"""Do two folders, of any kind, hold the same model? Exit code 0: yes; 78: no, and what differs is printed.

    jaxlm compare runs/wiki exported
    jaxlm compare hf:path/to/hf_model models/mine

Parameters are compared by transformers' names, then outputs: ours of both, and transformers' where it is installed.
"""

from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, EXIT_USER


def main(argv: Sequence[str]) -> int:
    """Prints what differs."""
    parser = table.Parser(__name__, __doc__)
    parser.runs += ["a", "b"]
    for name in ("A", "B"):
        parser.add_argument(name.lower(), metavar=name, help="run folder, model folder, hf:DIR or .gguf file")
    table.add_recipe(parser)
    add_pickles(parser)
    options = parser.options(argv)

    from jaxlm.config import flags  # after parsing, so that --help answers at once

    flags.named_recipe(options.recipe, options.a, options.b)
    return told(options.a, options.b, allow_pickle=options.allow_pickle)


def told(a: str, b: str, *, allow_pickle: str = "refuse", base: str = "") -> int:
    """Prints the comparison of two folders; its exit code."""
    from jaxlm.exchange import check

    finding = check.compare(a, b, allow_pickle=allow_pickle, base=base)
    print("\n".join(finding.lines))
    print("the same model" if finding.same else "NOT the same model")
    return EXIT_DONE if finding.same else EXIT_USER


def add_check(parser: table.Parser) -> None:
    """Compares both sides of a conversion."""
    text = "compare both sides afterwards, with transformers' outputs where it is installed"
    parser.add_argument("--check", action="store_true", help=text)


def add_pickles(parser: table.Parser) -> None:
    """How files that are programs are treated."""
    parser.add_argument(
        "--allow-pickle",
        choices=["refuse", "weights-only"],
        default="refuse",
        help="read pytorch_model.bin: names and tensors are taken from it without running the program that it is",
    )


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
