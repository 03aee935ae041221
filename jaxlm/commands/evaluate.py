"""Measures a trained run on a split of its corpus, or a classifier or tagger on a table with the right labels.

    jaxlm evaluate --run=runs/wiki --split=test
    jaxlm evaluate --run=runs/reviews --data=test.csv
    jaxlm evaluate --run=runs/wiki --split=validation --step=1200 --json

On a split the run's own evaluators are used: the held-out loss, and what its recipe adds. On a table accuracy, F1 and
others come with 95 % intervals (1,000 bootstrap samples); of a tagger precision, recall and F1 of whole spans. The
columns of the table are named as those of the run's own data.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints the metrics."""
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "the run to measure")
    parser.add_argument(
        "--split", choices=("validation", "test", "train"), help="of the run's own corpus; default: test"
    )
    parser.add_argument(
        "--data", metavar="FILE", help=".csv, .tsv, .jsonl or .parquet with the run's columns, label included"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=0,
        metavar="N",
        help="of a split at most so many rows of each task; 0: all",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        default=64,
        metavar="N",
        help="of an answer that is written; default: 64",
    )
    table.add_answers(parser, "with {step, split, metrics}, of --data {data, items, metrics}")
    options = parser.options(argv)
    table.write(_of_table(options) if options.data else _of_split(options), options.output)
    return 0


def _of_split(options: argparse.Namespace) -> str:
    from jaxlm.config import flags  # after parsing, so that --help answers at once
    from jaxlm.evaluate import of_run
    from jaxlm.partition.mesh import AXES

    if options.precision != "float32" or any(vars(options).get(f"mesh.{axis}") is not None for axis in AXES):
        raise UserError("--precision and --mesh are of --data; a split is measured as the run's recipe says.")
    flags.named_recipe(options.recipe, options.run)
    split = options.split or "test"
    where = {"split": split, "step": options.step, "rows": options.rows, "base": options.base}
    step, metrics = of_run.measure(options.run, **where, say=lambda line: print(line, file=sys.stderr))
    if options.json:
        return table.as_json({"step": step, "split": split, "metrics": metrics})
    return "\n".join(f"{name.removeprefix('eval/')} {value:.6g}" for name, value in metrics.items())


def _of_table(options: argparse.Namespace) -> str:
    from jaxlm.data.corpus import readers
    from jaxlm.infer import loaded
    from jaxlm.tasks import of
    from jaxlm.tasks import table as tables

    if options.split or options.rows:
        raise UserError("--data is a table of its own, without splits: leave --split and --rows out.")
    if not readers.is_table(options.data):
        raise UserError(f"--data={options.data}: a table is a .csv, .tsv, .jsonl, .parquet or .conll file.")
    task = of.of(loaded.of_options(options), max_new_tokens=options.max_new_tokens)
    found = tables.measured(task, options.data)
    if options.json:
        values = {name: dataclasses.asdict(one) for name, one in found.metrics.items()}
        return table.as_json({"data": options.data, "items": found.items, "metrics": values})
    lines = [f"{name:<9} {one}" for name, one in found.metrics.items()]
    said = [f"{found.items:,} items; in brackets the 95 % interval", *lines]
    return "\n".join([*said, "", found.table] if found.table else said)


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: --precision=bfloat16, or more devices.")
