"""One page about runs, an HTML file that opens anywhere: curves, settings, samples, rows, environment.

    jaxlm report runs/wiki
    jaxlm report runs/small runs/large --output=comparison.html

Needs the run folders alone, wherever they are now: neither corpus nor weights are read, and a run may be in progress.
Several runs are drawn over each other, with the settings that differ between them.
"""

import pathlib
from collections.abc import Sequence
from typing import NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.errors import EXIT_DONE


def main(argv: Sequence[str]) -> int:
    """Writes the page."""
    parser = table.Parser(__name__, __doc__)
    parser.runs, parser.weights = ["runs"], "none"
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    table.add_output(parser, "file for the page; default: report.html", pathlib.Path("report.html"))
    options = parser.options(argv)

    from jaxlm.report import page, told  # after parsing, so that --help answers at once

    runs = told.several(options.runs)
    text = page.page(runs)
    table.write(text, options.output)
    names = ", ".join(run.name for run in runs)
    print(f"{options.output}: {names}, {len(text.encode()) / 1024:,.0f} KiB; open it in a browser")
    return EXIT_DONE


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main)
