"""Measures a trained run on a split of its corpus, or any model on a table with the right answers.

    jaxlm evaluate --run=runs/wiki --split=test
    jaxlm evaluate --run=runs/reviews --data=test.csv
    jaxlm evaluate --run=runs/reviews --against=runs/others --data=test.csv
    jaxlm evaluate --run=runs/seed1 --run=runs/seed2 --data=test.csv --by=topic
    jaxlm evaluate --run=runs/reviews --data=dev.csv --calibrate

On a split the run's own evaluators are used: the held-out loss, and what its recipe adds. On a table accuracy, F1 and
others come with 95 % intervals (1,000 bootstrap samples); of a tagger precision, recall and F1 of whole spans. The
columns of the table are named as those of the run's own data. RUN/evaluation/NAME then holds a page, the pictures and
the worst items (--errors). --against tests another run on the same items, pair by pair. --calibrate fits a temperature
(of label sets a threshold) on the table and keeps it with the run, whose answers have it from then on.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.commands import untuned, writing
from jaxlm.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints the metrics."""
    options = _parser().options(argv)
    table.write(_of_table(options) if options.data else _of_split(options), options.output)
    return 0


def _of_split(options: argparse.Namespace) -> str:
    from jaxlm.config import flags  # after parsing, so that --help answers at once
    from jaxlm.evaluate import of_run
    from jaxlm.objectives import search
    from jaxlm.partition.mesh import AXES
    from jaxlm.tasks import of

    decisions = ("calibrate", "temperature", "threshold")
    for_data = (*decisions, "text_field", "task", "more", "weights", "vote", "against", "by", "folder")
    if name := of.first_given(options, (*for_data, *search.given(options))):
        raise UserError(f"{name} is of --data=FILE; a split is measured of one run.")
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
    from jaxlm.tasks import kept, of
    from jaxlm.tasks import table as tables

    if options.split or options.rows:
        raise UserError("--data is a table of its own, without splits: leave --split and --rows out.")
    if options.calibrate:
        return _calibrated(options)
    task = of.of_options(options)
    if options.text_field and options.text_field != task.fields:
        raise UserError(
            f"--text-field={','.join(options.text_field)}: a run reads the columns it was trained on, "
            f"{', '.join(task.fields)}. Rename those of the table, or leave it out."
        )
    rows = tables.rows(task, options.data)
    if options.by and (lacking := [record.where for record, row in rows if options.by not in row]):
        raise UserError(f'{lacking[0]}: no field "{options.by}", and --by names one.')
    found = tables.answered(task, (record for record, _ in rows))
    measured = found.measured()
    groups = tables.grouped(measured, [row[options.by] for _, row in rows]) if options.by else {}
    differences = {}
    if options.against:
        other = of.of_options(_of_other(options))
        tables.check_same(task, other)
        differences = tables.compared(found, tables.answered(other, found.records))
    models = " + ".join((options.run, *options.more))
    if folder := _folder(options):
        what = {"model": models, "data": options.data, "found": found, "measured": measured}
        names = kept.keep(folder, **what, errors=options.errors)
        print(f"{folder}: {', '.join(names)}", file=sys.stderr)
    options.decided = task.note
    if task.note:
        print(f"applied: {task.note}", file=sys.stderr)
    return (_json if options.json else _text)(options, measured, groups, differences)


def _calibrated(options: argparse.Namespace) -> str:
    """Fits on the table, keeps what is found, and says what it changes there."""
    from jaxlm.tasks import calibration, of
    from jaxlm.tasks import table as tables

    if options.more or options.against or options.by or options.task:
        raise UserError("--calibrate is of one --run and one --data: leave the other options out.")
    if options.temperature is not None or options.threshold is not None:
        raise UserError("--calibrate finds what --temperature and --threshold give: leave them out.")
    task: Any = of.of_options(options)
    task.undecide()
    found = tables.answered(task, (record for record, _ in tables.rows(task, options.data)))
    before, best = found.measured(), task.calibrated(found.records, found.asked)
    made = calibration.Calibration(
        step=task.model.stored.step, data=options.data, items=len(found.records), **best
    )
    path = calibration.keep(task.model, made)
    task.decide(**best)
    after = tables.answered(task, found.records).measured()
    print(f"{path}: {made}", file=sys.stderr)
    if options.json:
        kept = {"calibration": dataclasses.asdict(made), "before": before.to_json()["metrics"]}
        return table.as_json({"data": options.data, **after.to_json(), **kept})
    width = max(map(len, before.metrics))
    lines = [f"{made}; before, after, in brackets the 95 % interval"]
    lines += [f"{name:<{width}} {one}   {after.metrics[name]}" for name, one in before.metrics.items()]
    return "\n".join(lines)


def _folder(options: argparse.Namespace) -> pathlib.Path | None:
    """For the files about --data."""
    from jaxlm.tasks import kept, of

    if options.folder is not None or options.more:
        return pathlib.Path(options.folder).expanduser() if options.folder else None
    return kept.place(*of.named(options.run, options.step), options.data)


def _of_other(options: argparse.Namespace) -> argparse.Namespace:
    """The options of --against: its own best checkpoint."""
    alone = {"run": options.against, "more": [], "weights": [], "vote": False, "step": None, "base": ""}
    return argparse.Namespace(**{**vars(options), **alone})


def _json(options: argparse.Namespace, measured: Any, groups: Any, differences: Any) -> str:
    said: dict[str, Any] = {"data": options.data, **measured.to_json()}
    if options.decided:
        said["decided"] = options.decided
    if groups:
        said["by"] = {name: {"items": items, "metrics": of} for name, (items, of) in groups.items()}
    if differences:
        said["against"] = options.against
        said["differences"] = {name: dataclasses.asdict(one) for name, one in differences.items()}
    return table.as_json(said)


def _text(options: argparse.Namespace, measured: Any, groups: Any, differences: Any) -> str:
    width = max(map(len, ("accuracy ", *measured.metrics)))
    lines = [f"{measured.items:,} items; in brackets the 95 % interval"]
    lines += [f"{name:<{width}} {one}" for name, one in measured.metrics.items()]
    if measured.table:
        lines += ["", measured.table]
    if groups:
        wide = max(len(options.by), *map(len, groups))
        names = "".join(f"  {name:>9}" for name in measured.metrics)
        lines += ["", f"{options.by:<{wide}}   items{names}"]
        for name, (items, of) in groups.items():
            lines.append(f"{name:<{wide}}  {items:6,}" + "".join(f"  {value:9.4f}" for value in of.values()))
    if differences:
        lines += ["", f"{' + '.join((options.run, *options.more))} less {options.against}, on the same items"]
        lines += [f"{name:<{width}} {one}" for name, one in differences.items()]
    return "\n".join(lines)


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "the run to measure", several=True)
    add = parser.add_argument
    splits = ("validation", "test", "train")
    add("--split", choices=splits, help="of the run's own corpus; default: test")
    rows = "of a split at most so many rows of each task; 0: all"
    add("--rows", type=int, default=0, metavar="N", help=rows)
    _add_data(parser)
    table.add_fields(parser)
    untuned.add_options(parser)
    writing.add_options(parser)
    table.add_decisions(parser)
    table.add_answers(parser, "with {step, split, metrics}, of --data {data, items, metrics}")
    return parser


def _add_data(parser: table.Parser) -> None:
    add = parser.add_argument
    kinds = ".csv, .tsv, .jsonl, .parquet or .conll with the run's columns, label included"
    add("--data", metavar="FILE", help=f"{kinds}; for --task=perplexity also .txt")
    kept = "fit a temperature or a threshold on --data (held out, and not the test) and keep it with the run"
    add("--calibrate", action="store_true", help=kept)
    parser.runs += ["against"]
    add("--against", metavar="RUN", help="another run, tested on the same items of --data")
    groups = "a field of --data: the metrics of the items with each of its values, too"
    add("--by", metavar="FIELD", help=groups)
    listed = "items of --data that are listed, the worst first; default: 50"
    add("--errors", type=int, default=50, metavar="N", help=listed)
    files = "for the files about --data; default: RUN/evaluation/NAME; --folder=: none"
    add("--folder", metavar="DIR", help=files)


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: --precision=bfloat16, or more devices.")
