"""`python -m jaxlm.fill_mask --run=DIR "Paris is the [MASK] of France."`: uses a trained masked language model.

DIR is a run folder or a model folder; --hf=DIR reads a Hugging Face folder as it is.
"""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints the likeliest tokens for every [MASK]."""
    parser = argparse.ArgumentParser(prog="python -m jaxlm.fill_mask", description=__doc__)
    entry.add_model(parser, "a masked language model")
    parser.add_argument("--top", type=int, default=5, help="candidates per mask")
    parser.add_argument("sentences", nargs="+", help="text with [MASK]")
    options = parser.parse_args(list(argv[1:]))

    from jaxlm.infer import fill_mask, loaded  # after parsing, so that --help answers at once

    if not 1 <= options.top <= 1000:
        raise UserError(f"--top={options.top}: allowed: 1 to 1000.")
    ready = loaded.of_options(options)
    ready.require("filling masks", ("encoder",), ("tokens",))
    print(fill_mask.table(fill_mask.fill(ready, options.sentences, top=options.top)))
    return 0


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(
        main, when_out_of_memory="Fix: fewer or shorter sentences, --precision=bfloat16, or more devices."
    )
