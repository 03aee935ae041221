"""A smaller and faster model of a trained one: fewer bits, fewer weights.

    jaxlm compress --run=runs/reviews --output=small --config=compress_int8 --text=reviews.txt --data=test.csv
    jaxlm compress --run=hf:path/to/model --output=small --config=compress_int4 --text=wiki.txt --data=held_out.txt
    jaxlm compress --run=RUN --output=small --config=compress_int4 --config.calibration.rows=64
    jaxlm compress --run=RUN --output=tried --config=compress_int8 --config=compress_mixed --text=FILE --data=FILE

--text is what activations are measured on, of the kind that the model will read. With --data, a table that the model
answers or a text, quality is measured before and after, with 95 % intervals. The output is a model folder, which every
command takes as --run. Of several recipes DIR gets a folder each, and compared.svg: size against quality.
"""

import argparse
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE, UserError
from jaxlm.runtime import signals


def main(argv: Sequence[str]) -> int:
    """Compresses, writes, and says what it cost."""
    changes = [word for word in argv[1:] if re.match(r"--config\.", word)]
    options = _parser().options([argv[0], *(word for word in argv[1:] if word not in changes)])
    signals.end_on_term()

    from jaxlm.compress import report, writing  # after parsing, so that --help answers at once
    from jaxlm.data.places import expanded
    from jaxlm.exchange import model_folder
    from jaxlm.infer import loaded

    chosen = _recipes(options, changes)
    target = expanded(options.output)
    model_folder.check_free(target)
    targets = {name: target / name if len(chosen) > 1 else target for name in chosen}
    model = loaded.of_options(options)
    for recipe in chosen.values():
        recipe.check(model)
    read = {name: recipe.calibration.read(model) for name, recipe in chosen.items() if recipe.calibrated}
    before, after = report.measured(model, options.data), {}
    for name, recipe in chosen.items():
        smaller = recipe.apply(model, read.get(name), lambda line: print(line, flush=True))
        writing.write(targets[name], smaller, recipe, say=print)
        after[name] = report.measured(loaded.load(targets[name], dtype=options.precision), options.data)
    if options.json:
        made = {name: one.to_json() for name, one in after.items()}
        found = made if len(made) > 1 else next(iter(made.values()))
        print(table.as_json({"before": before.to_json(), "after": found}))
    elif len(after) == 1:
        print(report.told(before, *after.values()))
    else:
        print(report.compared(before, after))
    if len(after) > 1:
        (target / "compared.svg").write_text(_picture(before, after), encoding="utf-8")
    return EXIT_DONE


def _recipes(options: argparse.Namespace, changes: list[str]) -> dict[str, Any]:
    """By name, with the changes of the command line."""
    from jaxlm.compress.step import Compress
    from jaxlm.config import flags, recipes

    text = [f"--config.calibration.file={options.text}"] if options.text else []
    chosen = {}
    for config in options.config:
        recipe, _ = flags.executed_recipe(recipes.located(config), kind=Compress)
        recipe, _ = flags.overridden(recipe, [*changes, *text], config)
        recipe.validate()
        if chosen.setdefault(pathlib.Path(config).stem, recipe) is not recipe:
            raise UserError(f"--config={config}: a second recipe of that name. Fix: one command for each.")
    return chosen


def _picture(before: Any, after: Mapping[str, Any]) -> str:
    from jaxlm.compress import report
    from jaxlm.report import tradeoff

    what, _, higher = report.judged(before, before)
    points = []
    for name, one in {"as it was": before, **after}.items():
        value, low, high = report.judged(before, one)[1]
        points.append(tradeoff.Point(name, one.bytes, value, low, high))
    return tradeoff.picture(points, what, higher=higher)


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "the model")
    add = parser.add_argument
    add(
        "--output",
        required=True,
        metavar="DIR",
        help="the model folder to make, or of several recipes the folder of theirs; it must not exist, or be empty",
    )
    add(
        "--config",
        required=True,
        action="append",
        metavar="RECIPE",
        help="how, such as compress_int8 or compress_int4, or a file; several: each by itself, compared",
    )
    add("--text", metavar="FILE", help="text that activations are measured on, for recipes that need it")
    add("--data", default="", metavar="FILE", help="a table, or a text, that quality is measured on")
    add(
        "--json",
        action="store_true",
        help="{before, after}, each {bytes, seconds, metrics}; of several recipes by name",
    )
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(
        main, when_out_of_memory="Fix: fewer rows (--config.calibration.rows), or --precision=bfloat16."
    )
