"""Tables as text. In: the path of a .csv or .tsv. Out: records, {column: cell}, with the number of their first line.

The first row names the columns. Cells with a separator, quote or line break stand in double quotes (RFC 4180). A .csv
is separated by commas, or by semicolons or tabs if only so a wanted column is found. A .tsv without any wanted name in
its first row has no header: its columns are the wanted ones in order, and quotes are letters.
"""

import csv
import itertools
from collections.abc import Iterator
from typing import Any

from jaxlm.data.corpus import lines
from jaxlm.errors import UserError

# Characters of a row; csv holds four bytes for each. What is longer is a quote that was never closed.
LONGEST_ROW = 32 * 2**20
_QUOTED = {"skipinitialspace": True, "strict": True}
_Row = tuple[int, list[str]]


def read_csv(path: str, names: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows below the header; UserError for one of another width."""
    first, read = _first(path)
    found = [mark for mark in ",;\t" if not {*_header(first, mark)}.isdisjoint(names)]
    rows = _rows(read, path, delimiter=(found or [","])[0], **_QUOTED)
    return _below_header(rows, path)


def read_tsv(path: str, names: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The same, with a header if the first row names a wanted column."""
    first, read = _first(path)
    header = _header(first, "\t")
    if not {*header}.isdisjoint(names):
        return _below_header(_rows(read, path, delimiter="\t", **_QUOTED), path)
    return _in_order(read, path, names)


def _below_header(rows: Iterator[_Row], path: str) -> Iterator[tuple[int, dict[str, str]]]:
    first, header = next(rows, (0, []))
    header = [name.strip() for name in header]
    if twice := {name for name in header if header.count(name) > 1 and name}:
        raise UserError(
            f"{path}:{first}: two columns are called {min(twice)!r}. Every name of the header must be different: "
            "rename one."
        )
    for number, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{path}:{number}: {len(cells)} cells, and the header names {len(header)} columns "
                f"({', '.join(header):.200}). A cell with a separator or a line break in it stands in double quotes, "
                'with every quote inside it written twice (""), and the first row names the columns. Repair or remove '
                "the row."
            )
        yield number, dict(zip(header, cells, strict=True))


def _in_order(
    read: Iterator[tuple[int, str]], path: str, names: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in read:
        if not line.strip():
            continue
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) != len(names):
            raise UserError(
                f"{path}:{number}: {len(cells)} columns, and {len(names)} asked for ({', '.join(names)}), none of "
                "which the first line names. Fix: --config.data.text_field=NAME with a name that stands there; of a "
                "file without a header text_fields and columns with a name for each column; or repair the line."
            )
        yield number, dict(zip(names, cells, strict=True))


def _first(path: str) -> tuple[str, Iterator[tuple[int, str]]]:
    """The first line that is not blank, "" without one; and all lines."""
    read = lines.numbered(path)
    for one in read:
        if one[1].strip():
            return one[1], itertools.chain([one], read)
    return "", iter(())


def _header(line: str, delimiter: str) -> list[str]:
    """Its names, as far as they stand in the first line; none where they are no table's."""
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _rows(read: Iterator[tuple[int, str]], path: str, **dialect: Any) -> Iterator[_Row]:
    """(number of its first line, cells) of every row that is not blank. UserError for what csv cannot read."""
    taken: list[int] = []  # numbers of the lines of the row that is being read
    csv.field_size_limit(LONGEST_ROW)
    reader = csv.reader(_taking(read, taken, path), **dialect)
    while True:
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _damaged(path, taken, str(error)) from error
        if any(cell.strip() for cell in cells):
            yield taken[0], cells


def _taking(read: Iterator[tuple[int, str]], taken: list[int], path: str) -> Iterator[str]:
    """The lines, whose numbers are added to `taken`. UserError for a row without an end."""
    size = 0
    for number, line in read:
        size = len(line) + (size if taken else 0)
        taken.append(number)
        if size > LONGEST_ROW:
            raise _damaged(path, taken, f"a row of more than {LONGEST_ROW >> 20} MiB")
        yield line


def _damaged(path: str, taken: list[int], problem: str) -> UserError:
    return UserError(
        f"{path}:{taken[0] if taken else 1}: not a row of a table ({problem}). A cell that begins with a double quote "
        'ends with one, every quote inside it is written twice (""), and a line ends in a line feed. Repair or remove '
        "the row that begins there."
    )
