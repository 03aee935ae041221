"""A smaller and faster model of a trained one: fewer bits, fewer weights.

    jaxlm compress --run=runs/reviews --output=small --config=compress_int8 --text=reviews.txt --data=test.csv
    jaxlm compress --run=hf:path/to/model --output=small --config=compress_int4 --text=wiki.txt --data=held_out.txt
    jaxlm compress --run=RUN --output=small --config=compress_int4 --config.calibration.rows=64

--text is what activations are measured on, of the kind that the model will read. With --data, a table that the model
answers or a text, quality is measured before and after, with 95 % intervals. The output is a model folder, which every
command takes as --run.
"""

import re
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE
from jaxlm.runtime import signals


def main(argv: Sequence[str]) -> int:
    """Compresses, writes, and says what it cost."""
    changes = [word for word in argv[1:] if re.match(r"--config\.", word)]
    options = _parser().options([argv[0], *(word for word in argv[1:] if word not in changes)])
    signals.end_on_term()

    from jaxlm.compress import report, writing  # after parsing, so that --help answers at once
    from jaxlm.compress.step import Compress
    from jaxlm.config import flags, recipes
    from jaxlm.data.places import expanded
    from jaxlm.exchange import model_folder
    from jaxlm.infer import loaded

    recipe, _ = flags.executed_recipe(recipes.located(options.config), kind=Compress)
    text = [f"--config.calibration.file={options.text}"] if options.text else []
    recipe, _ = flags.overridden(recipe, [*changes, *text], options.config)
    recipe.validate()
    target = expanded(options.output)
    model_folder.check_free(target)
    model = loaded.of_options(options)
    recipe.check(model)
    calibration = recipe.calibration.read(model) if recipe.calibrated else None
    before = report.measured(model, options.data)
    smaller = recipe.apply(model, calibration, lambda line: print(line, flush=True))
    writing.write(target, smaller, recipe, say=print)
    again = loaded.load(target, dtype=options.precision)
    after = report.measured(again, options.data)
    if options.json:
        print(table.as_json({"before": before.to_json(), "after": after.to_json()}))
    else:
        print(report.told(before, after))
    return EXIT_DONE


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "the model")
    add = parser.add_argument
    add(
        "--output",
        required=True,
        metavar="DIR",
        help="the model folder to make; it must not exist, or be empty",
    )
    add("--config", required=True, metavar="RECIPE", help="how: a recipe compress_..., or a file")
    add("--text", metavar="FILE", help="text that activations are measured on, for recipes that need it")
    add("--data", default="", metavar="FILE", help="a table, or a text, that quality is measured on")
    add("--json", action="store_true", help="{before, after}, each {bytes, seconds, metrics}")
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(
        main, when_out_of_memory="Fix: fewer rows (--config.calibration.rows), or --precision=bfloat16."
    )
