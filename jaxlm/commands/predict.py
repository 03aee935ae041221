"""Gives every row of a table what the model makes of its text: a column or two more, the others as they were.

    jaxlm predict --run=runs/wiki --input=sentences.csv --output=filled.csv
    jaxlm predict --run=hf:path/to/minilm --input=reviews.jsonl --text-field=review --output=vectors.parquet
    jaxlm predict --run=runs/stories "Once upon a time"
    jaxlm predict --run=hf:path/to/base --adapter tone=runs/tone --adapter topic=runs/topic --input=rows.csv

A classifier gives a label (predicted, probability, probabilities), a masked language model fills every [MASK] (tokens,
probabilities), a decoder or an encoder-decoder answers, greedy (answer, ended_by), any other encoder embeds (vector).
A table is a .csv, .tsv, .jsonl, .parquet or .conll file, on its way in compressed or not; any other file holds a text a
line, and - is stdin. Without --output, rows are printed as JSON. Words that were a list in training may be one here:
their spans count the characters of the words with what stood between two of them, a blank.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from jaxlm import entry
from jaxlm.commands import options as table
from jaxlm.commands import untuned, writing
from jaxlm.errors import UserError

_Row = tuple[str, dict[str, Any]]  # where it stands, {field: value}


def main(argv: Sequence[str]) -> int:
    """Writes the table; says on stderr what was done, and how fast."""
    options = _parser().options(argv)

    from jaxlm.data.corpus import readers, written  # after parsing, so that --help answers at once
    from jaxlm.tasks import of

    if options.output is not None:
        written.check(options.output, options.json)
    use = of.of_options(options)
    fields = options.text_field or use.fields
    if len(fields) != len(use.fields):
        raise UserError(
            f"--text-field={','.join(fields)}: the model takes {len(use.fields)} column(s), {', '.join(use.fields)}. "
            "Name as many, or leave it out."
        )
    parts = readers.together(_rows(options, fields))
    first = next(parts, None)
    if first is None:
        raise UserError("There is no text: --input names an empty file.")
    started, done = time.monotonic(), 0
    with written.table(options.output) as write:
        for part in itertools.chain([first], parts):
            items = [_item(one, fields, use) for one in part]
            found = use.answer(items, use.ask(items))
            write([row | new for (_, row), new in zip(part, found, strict=True)])
            done += len(part)
            _say(f"{done:,} rows in {time.monotonic() - started:.1f} s", end="")
    note = f" ({use.note})" if use.note else ""
    _say(f"{done:,} rows in {time.monotonic() - started:.1f} s: {use.does}{note}", end="\n")
    return 0


def _rows(options: argparse.Namespace, fields: tuple[str, ...]) -> Iterator[_Row]:
    from jaxlm.data.corpus import readers
    from jaxlm.data.corpus.columns import Wanted

    path = options.input or ""
    if not readers.is_table(path):
        name, *others = fields
        if others:
            raise UserError(
                f"The model takes {len(fields)} texts: give a table with {', '.join(fields)} as --input."
            )
        return (("TEXT", {name: text}) for text in table.texts(options))
    if options.texts:
        raise UserError("TEXT behind the options and a table in --input: give one of the two.")
    return ((where, row) for where, _, row in readers.rows(path, Wanted(fields), whole=True))


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
    table.add_answers(parser, "a row (what is done without --output)", "table for the rows with the answers")
    return parser


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    entry.run(main, when_out_of_memory="Fix: shorter texts, --precision=bfloat16, or more devices.")
