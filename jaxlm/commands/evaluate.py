"""Measures a trained run on a split of its corpus.

    jaxlm evaluate --run=runs/wiki --split=test
    jaxlm evaluate --run=runs/wiki --split=validation --step=1200 --json

The run's own evaluators are used: the held-out loss, and what its recipe adds.
"""

import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table


def main(argv: Sequence[str]) -> int:
    """Prints the metrics."""
    parser = table.Parser(__name__, __doc__)
    table.add_run(parser, "the run folder to measure")
    parser.add_argument(
        "--split", choices=("validation", "test", "train"), default="test", help="default: test"
    )
    parser.add_argument(
        "--rows", type=int, default=0, metavar="N", help="at most so many rows of each task; default: 0, all"
    )
    table.add_answers(parser, "with {step, split, metrics}")
    options = parser.options(argv)

    from jaxlm.config import flags  # after parsing, so that --help answers at once
    from jaxlm.evaluate import of_run

    flags.named_recipe(options.recipe, options.run)
    where = {"split": options.split, "step": options.step, "rows": options.rows, "base": options.base}
    step, metrics = of_run.measure(options.run, **where, say=lambda line: print(line, file=sys.stderr))
    if options.json:
        said = table.as_json({"step": step, "split": options.split, "metrics": metrics})
    else:
        said = "\n".join(f"{name.removeprefix('eval/')} {value:.6g}" for name, value in metrics.items())
    table.write(said, options.output)
    return 0


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
