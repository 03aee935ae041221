"""Gives every row of a table what the model makes of its text: a column or two more, the others as they were.

    jaxlm predict --run=runs/wiki --input=sentences.csv --output=filled.csv
    jaxlm predict --run=hf:path/to/minilm --input=reviews.jsonl --text-field=review --output=vectors.parquet
    jaxlm predict --run=runs/stories "Once upon a time"
    jaxlm predict --run=hf:path/to/base --adapter tone=runs/tone --adapter topic=runs/topic --input=rows.csv

A classifier gives a label (predicted, probability, probabilities), a masked language model fills every [MASK] (tokens,
probabilities), a decoder or an encoder-decoder answers, greedy (answer, ended_by), any other encoder embeds (vector).
A table is a .csv, .tsv, .jsonl, .parquet or .conll file, on its way in compressed or not; any other file holds a text a
line, and - is stdin; a glob or a URL names several. Without --output, rows are printed as JSON. A job with --input and
--output that was killed goes on when the same line is typed again. Words that were a list in training may be one here:
their spans count the characters of the words with what stood between two of them, a blank.
"""

import argparse
import itertools
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from jaxlm import entry
from jaxlm.commands import inputs, parts, untuned, writing
from jaxlm.commands import options as table
from jaxlm.errors import UserError

_Row = tuple[str, dict[str, Any]]  # where it stands, {field: value}


def main(argv: Sequence[str]) -> int:
    """Writes the table; says on stderr what was done, and how fast."""
    options = _parser().options(argv)

    from jaxlm.data.corpus import written  # after parsing, so that --help answers at once
    from jaxlm.tasks import of

    in_parts = parts.asked(options)
    if options.output is not None and (file := parts.file_name(options.output)):
        written.check(file, options.json)
    use = of.of_options(options)
    fields = options.text_field or use.fields
    if len(fields) != len(use.fields):
        raise UserError(
            f"--text-field={','.join(fields)}: the model takes {len(use.fields)} column(s), {', '.join(use.fields)}. "
            "Name as many, or leave it out."
        )
    answering = _Answering(options, fields, use)
    if in_parts:
        made = {"compute": answering.part, "joined": written.joined}
        parts.done("predict", options, parts.Work(kind=".jsonl", records=answering.rows, **made))
    else:
        rows = answering.rows()
        first = next(rows, None)
        if first is None:
            raise UserError("There is no text: --input names an empty file.")
        with written.table(options.output) as write:
            answering.write(itertools.chain([first], rows), write)
    answering.say_end()
    return 0


class _Answering:
    """Rows in, rows with answers out; says how many, and how fast."""

    def __init__(self, options: argparse.Namespace, fields: tuple[str, ...], use: Any) -> None:
        self.options, self.fields, self.use = options, fields, use
        self.started, self.done = time.monotonic(), 0
        self.columns, self.answers = [], []  # of the first row, and behind them

    def rows(self) -> Iterator[_Row]:
        """All of them. Those of a part have the columns of the first."""
        for one in _rows(self.options, self.fields):
            self.columns = self.columns or list(one[1])
            yield one

    def part(self, first: int, rows: list[_Row]) -> Callable[[pathlib.Path], None]:
        """What writes the rows of a part with their answers."""
        from jaxlm.data.corpus import readers, written

        made = list[dict[str, Any]]()
        self.write(iter(rows), made.extend)

        def write(path: pathlib.Path) -> None:
            with written.table(path, [*self.columns, *self.answers], header=first == 0) as add:
                for together in readers.together(iter(made)):
                    add(together)

        return write

    def write(self, rows: Iterator[_Row], write: Callable[[list[dict[str, Any]]], Any]) -> None:
        """Hands on the rows with their answers."""
        from jaxlm.data.corpus import readers

        for together in readers.together(rows):
            items = [_item(one, self.fields, self.use) for one in together]
            found = self.use.answer(items, self.use.ask(items))
            write([row | new for (_, row), new in zip(together, found, strict=True)])
            self.answers, self.done = list(found[0]), self.done + len(together)
            _say(f"{self.done:,} rows in {time.monotonic() - self.started:.1f} s", end="")

    def say_end(self) -> None:
        """How many rows were answered here, and as what."""
        note = f" ({self.use.note})" if self.use.note else ""
        _say(
            f"{self.done:,} rows in {time.monotonic() - self.started:.1f} s: {self.use.does}{note}",
            end="\n",
        )


def _rows(options: argparse.Namespace, fields: tuple[str, ...]) -> Iterator[_Row]:
    from jaxlm.data.corpus import readers
    from jaxlm.data.corpus.columns import Wanted

    given = options.input or ""
    paths = [given] if not given or inputs.passes(given) else [file.path for file in inputs.found(given)]
    tables = [path for path in paths if readers.is_table(path)]
    if tables and len(tables) < len(paths):
        other = next(path for path in paths if path not in tables)
        raise UserError(
            f"--input={given}: {tables[0]} is a table and {other} is none. Fix: files of one kind."
        )
    if not tables:
        name, *others = fields
        if others:
            raise UserError(
                f"The model takes {len(fields)} texts: give a table with {', '.join(fields)} as --input."
            )
        texts = inputs.each_text(options)
        return (("TEXT", {name: text}) for text in texts)
    if options.texts:
        raise UserError("TEXT behind the options and a table in --input: give one of the two.")
    each = (readers.rows(path, Wanted(fields), whole=True) for path in tables)
    return ((where, row) for where, _, row in itertools.chain.from_iterable(each))


def _item(one: _Row, fields: tuple[str, ...], use: Any) -> tuple[str, ...]:
    """The texts of a row that has room for the answers; UserError with its place."""
    (where, row), item = one, ()
    for field, name in zip(fields, use.fields, strict=True):
        text = use.text(name, row.get(field), where)
        if not isinstance(text, str) or not text.strip():
            there = ", ".join(map(str, row)) or "none"
            fix = "--text-field=NAME, or repair the row" if len(fields) == 1 else "repair the row"
            raise UserError(
                f'{where}: field "{field}" must be a text that is not empty, and is {text!r:.60}. Fields there: '
                f"{there}. Fix: {fix}."
            )
        item += (text,)
    if taken := [name for name in use.columns if name in row]:
        raise UserError(f"{where}: the answers need a column {taken[0]!r}, and there is one. Rename it.")
    item = use.of_row(row, item, where)
    try:
        for text in item:
            use.check(text)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return item


def _say(line: str, end: str) -> None:
    if end or sys.stderr.isatty():
        print(f"\r{line}" if sys.stderr.isatty() else line, end=end, file=sys.stderr, flush=True)


def _parser() -> table.Parser:
    parser = table.Parser(__name__, __doc__)
    table.add_model(parser, "any model", several=True)
    untuned.add_options(parser)
    table.add_decisions(parser)
    table.add_fields(parser)
    table.add_adapters(parser)
    writing.add_options(parser)
    table.add_texts(parser, "text")
    rows = "table for the rows with the answers; a folder/ or a URL: in parts"
    table.add_answers(parser, "a row (what is done without --output)", rows, place=parts.place)
    parts.add_options(parser, 1024)
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: shorter texts, --precision=bfloat16, or more devices.")
