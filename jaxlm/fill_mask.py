"""`python -m jaxlm.fill_mask --run=WORKDIR "Paris is the [MASK] of France."`: uses a trained masked language model."""

import argparse
import pathlib
from collections.abc import Sequence

from jaxlm import entry
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints the likeliest tokens for every [MASK]."""
    parser = argparse.ArgumentParser(prog="python -m jaxlm.fill_mask", description=__doc__)
    parser.add_argument(
        "--run", required=True, type=pathlib.Path, help="run folder of a masked language model"
    )
    parser.add_argument("--top", type=int, default=5, help="candidates per mask")
    parser.add_argument(
        "--step", type=int, default=None, help="checkpoint to use; default: the best, else the newest"
    )
    parser.add_argument("sentences", nargs="+", help="text with [MASK]")
    options = parser.parse_args(list(argv[1:]))

    from jaxlm.infer import fill_mask, loaded  # after parsing, so that --help answers at once

    if not 1 <= options.top <= 1000:
        raise UserError(f"--top={options.top}: allowed: 1 to 1000.")
    ready = loaded.load_run(options.run.expanduser(), step=options.step)
    length = max(stage.length for stage in ready.run.stages)
    model = ready.model.bind(ready.params)
    print(
        fill_mask.table(
            fill_mask.fill(model, ready.tokenizer, options.sentences, row_length=length, top=options.top)
        )
    )
    return 0


if __name__ == "__main__":
    entry.run(main)
