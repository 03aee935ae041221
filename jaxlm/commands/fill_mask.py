"""Fills every [MASK] of a text with a masked language model.

    jaxlm fill_mask --run=runs/wiki "Paris is the [MASK] of France."
    jaxlm fill_mask --run=hf:path/to/bert --input=sentences.txt --json --output=filled.jsonl

A text may hold several masks; each is filled by itself.
"""

from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints the likeliest tokens for every [MASK]."""
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "a masked language model")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="candidates per mask; default: 5")
    table.add_texts(parser, "text with [MASK]")
    table.add_answers(parser, "a [MASK]: {text, candidates: [{token, probability}]}")
    options = parser.options(argv)
    sentences = table.texts(options)
    if not 1 <= options.top <= 1000:
        raise UserError(f"--top={options.top}: allowed: 1 to 1000.")

    from jaxlm.infer import fill_mask, loaded  # after parsing, so that --help answers at once

    ready = loaded.of_options(options)
    ready.require("filling masks", ("encoder",), ("tokens",))
    filled = fill_mask.fill(ready, sentences, top=options.top)
    if options.json:
        table.write("\n".join(table.as_json(one.to_json()) for one in filled), options.output)
    else:
        table.write(fill_mask.table(filled), options.output)
    return 0


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(
        main, when_out_of_memory="Fix: fewer or shorter sentences, --precision=bfloat16, or more devices."
    )
