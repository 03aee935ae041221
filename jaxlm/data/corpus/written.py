"""Rows to a table. In: {field: value}, in parts. Out: a .csv, .tsv, .jsonl or .parquet file, or lines of JSON.

A cell that is no text is written as JSON. The file has its name only when it is whole.
"""

import contextlib
import csv
import functools
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxlm.data.corpus import extras
from jaxlm.errors import UserError

_Rows = Sequence[dict[str, Any]]
_Write = Callable[[_Rows], None]


def check(path: pathlib.Path, as_json: bool = False) -> None:
    """UserError for a name that says no kind of table, or with `as_json` another than JSON lines."""
    allowed = (".jsonl",) if as_json else tuple(_KINDS)
    if path.suffix not in allowed:
        raise UserError(
            f"--output={path}: the name of a table{' of JSON lines' * as_json} ends in {' or '.join(allowed)}."
        )


@contextlib.contextmanager
def table(path: pathlib.Path | None, fields: Sequence[str] = (), *, header: bool = True) -> Iterator[_Write]:
    """A function that adds rows, all of them with the fields of the first; to the terminal without a path.

    `fields`: the columns of a .csv or .tsv, in order, which has their names on top with a `header`: tables of the same
    fields are `joined` to one, if the first alone has it.
    """
    if path is None:
        yield lambda rows: print("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), flush=True)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with _KINDS[path.suffix](part, fields, header) as write:
            yield write
        part.replace(path)
    except OSError as error:
        raise UserError(f"--output={path}: cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


def joined(parts: Callable[[], Iterator[pathlib.Path]], to: pathlib.Path) -> None:
    """One table of several, in order, the rows of each together. `parts` gives them anew at every call, each there
    until the next is asked for."""
    if to.suffix == ".parquet":
        _parquet_joined(parts, to)
        return
    with to.open("wb") as out:
        for path in parts():
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, out)


@contextlib.contextmanager
def _delimited(path: pathlib.Path, fields: Sequence[str], header: bool, delimiter: str) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        columns, named = list(fields), not header

        def write(rows: _Rows) -> None:
            nonlocal named
            columns.extend(() if columns else rows[0])
            if not named:
                writer.writerow(columns)
                named = True
            if lacking := next((field for row in rows for field in columns if field not in row), None):
                raise UserError(
                    f"--output: a row has no field {lacking!r}, and the first row has. Fix: rows of the same fields, "
                    "or write .jsonl."
                )
            writer.writerows([_cell(row[field]) for field in columns] for row in rows)

        yield write


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def _json_lines(path: pathlib.Path, fields: Sequence[str], header: bool) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8") as stream:
        yield lambda rows: stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextlib.contextmanager
def _parquet(path: pathlib.Path, fields: Sequence[str], header: bool) -> Iterator[_Write]:
    arrow = extras.require("pyarrow", "parquet", "writing .parquet files")
    parquet = extras.require("pyarrow.parquet", "parquet", "writing .parquet files")
    with contextlib.ExitStack() as stack:
        writers: list[Any] = []

        def write(rows: _Rows) -> None:
            made = arrow.Table.from_pylist(list(rows), schema=writers[0].schema if writers else None)
            if not writers:
                writers.append(stack.enter_context(parquet.ParquetWriter(path, made.schema)))
            writers[0].write_table(made)

        yield write


def _parquet_joined(parts: Callable[[], Iterator[pathlib.Path]], to: pathlib.Path) -> None:
    """A column that one part found empty, or without fractions, is of the type that fits all."""
    arrow = extras.require("pyarrow", "parquet", "writing .parquet files")
    parquet = extras.require("pyarrow.parquet", "parquet", "writing .parquet files")
    schemas = [parquet.read_schema(path) for path in parts()]
    if len(schemas) == 1:
        shutil.copyfile(next(parts()), to)
        return
    try:
        schema = arrow.unify_schemas(schemas, promote_options="permissive")
    except (arrow.ArrowInvalid, arrow.ArrowTypeError) as error:
        raise UserError(
            f"--output: the parts have columns of different types, which no .parquet holds: {error}. Fix: write .jsonl."
        ) from error
    with parquet.ParquetWriter(to, schema) as writer:
        for path in parts():
            stored = parquet.ParquetFile(path)
            for group in range(stored.num_row_groups):
                writer.write_table(stored.read_row_group(group).cast(schema))


_Kind = Callable[[pathlib.Path, Sequence[str], bool], contextlib.AbstractContextManager[_Write]]
_KINDS: dict[str, _Kind] = {
    ".csv": functools.partial(_delimited, delimiter=","),
    ".tsv": functools.partial(_delimited, delimiter="\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
