"""Measures a trained run on a split of its corpus.

    python -m jaxlm.evaluate --run=runs/wiki --split=test [--json]

The run's own evaluators are used: the held-out loss, and what its recipe adds.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry


def main(argv: Sequence[str]) -> int:
    """Prints the metrics."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxlm.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="run folder")
    parser.add_argument("--split", choices=("validation", "test", "train"), default="test")
    parser.add_argument("--step", type=int, help="checkpoint to use; default: the best, else the newest")
    parser.add_argument("--rows", type=int, default=0, help="at most so many rows of each task; 0: all")
    parser.add_argument(
        "--base", default="", metavar="DIR", help="where the frozen weights of its view are now"
    )
    parser.add_argument(
        "--config", metavar="RECIPE", help="recipe of a run with classes of its own; it is executed"
    )
    parser.add_argument("--json", action="store_true", help="print {step, split, metrics} as JSON")
    options = parser.parse_args(list(argv[1:]))

    from jaxlm.config import flags  # after parsing, so that --help answers at once
    from jaxlm.evaluate import of_run

    if options.config:
        flags.load(options.config)
    where = {"split": options.split, "step": options.step, "rows": options.rows, "base": options.base}
    step, metrics = of_run.measure(options.run, **where, say=lambda line: print(line, file=sys.stderr))
    if options.json:
        print(json.dumps({"step": step, "split": options.split, "metrics": metrics}))
    else:
        print("\n".join(f"{name.removeprefix('eval/')} {value:.6g}" for name, value in metrics.items()))
    return 0


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
