"""Rows to a table. In: {field: value}, in parts. Out: a .csv, .tsv, .jsonl or .parquet file, or lines of JSON.

A cell that is no text is written as JSON. The file has its name only when it is whole.
"""

import contextlib
import csv
import json
import pathlib
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
def table(path: pathlib.Path | None) -> Iterator[_Write]:
    """A function that adds rows, all of them with the fields of the first; to the terminal without a path."""
    if path is None:
        yield lambda rows: print("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), flush=True)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with _KINDS[path.suffix](part) as write:
            yield write
        part.replace(path)
    except OSError as error:
        raise UserError(f"--output={path}: cannot be written: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def _delimited(path: pathlib.Path, delimiter: str) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        fields: list[str] = []

        def write(rows: _Rows) -> None:
            if not fields:
                fields.extend(rows[0])
                writer.writerow(fields)
            writer.writerows([_cell(row[field]) for field in fields] for row in rows)

        yield write


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def _json_lines(path: pathlib.Path) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8") as stream:
        yield lambda rows: stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@contextlib.contextmanager
def _parquet(path: pathlib.Path) -> Iterator[_Write]:
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


_KINDS: dict[str, Callable[[pathlib.Path], contextlib.AbstractContextManager[_Write]]] = {
    ".csv": lambda path: _delimited(path, ","),
    ".tsv": lambda path: _delimited(path, "\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
