"""Records of one file. In: a path of a known kind and the names of the text fields. Out: an iterator of `Record`.

`.txt`: documents are separated by blank lines. `.tsv`: one record a line, its columns in the order of the text fields
and then of the others, no header. `.jsonl` (.ndjson, .json): one JSON object a line, the document in the text field.
`.parquet`: one row a document. Streaming: one document (or Parquet batch) in memory.
What cannot be read is a UserError with file and line.
"""

import codecs
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from jaxlm.data.corpus import extras, files, spans
from jaxlm.data.corpus.columns import Label, Number, Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.spans import Spans
from jaxlm.errors import UserError, did_you_mean

# A single document beyond this is a file without separators, not a document.
LONGEST_DOCUMENT = 256 * 2**20


def read(path: str, wanted: Wanted) -> Iterator[Record]:
    """All records of a file in order; those of one empty text are left out."""
    reader = READERS[files.suffixes(path)[0]]
    return (record for record in reader(path, wanted) if record.texts[0])


def read_text(path: str, wanted: Wanted) -> Iterator[Record]:
    """Blocks between blank lines; line breaks inside a block are kept."""
    if len(wanted.names) > 1:
        raise UserError(
            f"corpus file {path}: a text file has no fields, and {', '.join(wanted.names)} are asked for. Use JSONL or "
            'Parquet, or "--config.data.text_fields=()" "--config.data.columns=()".'
        )
    lines: list[str] = []
    size = first = 0
    for number, whole in _lines(path):
        # A line may end in a bare carriage return, too.
        for line in io.StringIO(whole, newline="") if "\r" in whole else (whole,):
            size += len(line)
            if line.strip():
                first = first if lines else number
                lines.append(line)
            if lines and (not line.strip() or size > LONGEST_DOCUMENT):
                _check_length(size, path, number)
                yield Record(("".join(lines).strip(),), origin=(0, first))
                lines, size = [], 0
    if lines:
        yield Record(("".join(lines).strip(),), origin=(0, first))


def read_columns(path: str, wanted: Wanted) -> Iterator[Record]:
    """The columns of a line, as many as there are fields; blank lines are skipped."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        columns = line.rstrip("\r\n").split("\t")
        if len(columns) != len(wanted.names):
            raise UserError(
                f"{path}:{number}: {len(columns)} columns, and there are {len(wanted.names)} text fields "
                f"({', '.join(wanted.names)}), which name the columns in order. Fix: text_fields with a name for each, "
                "or repair the line."
            )
        yield of(dict(zip(wanted.names, columns, strict=True)), wanted, f"{path}:{number}", number)


def read_json_lines(path: str, wanted: Wanted) -> Iterator[Record]:
    """The text fields of one JSON object a line; blank lines are skipped."""
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        # A number of thousands of digits is a ValueError, nesting without an end a RecursionError.
        except (ValueError, RecursionError) as error:
            at = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise UserError(
                f"{path}:{number}: not valid JSON ({getattr(error, 'msg', error)}{at}). Every line must be one "
                'JSON object such as {"text": "..."}: repair or remove the line.'
            ) from error
        if not isinstance(record, dict):
            raise UserError(
                f"{path}:{number}: a JSON {type(record).__name__}; every line must be one JSON object."
            )
        yield of(record, wanted, f"{path}:{number}", number)


def read_parquet(path: str, wanted: Wanted) -> Iterator[Record]:
    """The text columns, in batches of rows."""
    if files.suffixes(path)[1]:
        raise UserError(
            f"corpus file {path}: Parquet is compressed inside and read out of order: decompress the file."
        )
    parquet = extras.require("pyarrow.parquet", "parquet", "reading .parquet files")
    with files.opened(path) as stream:
        table = parquet.ParquetFile(stream)
        for name in wanted.names:
            _value(dict.fromkeys(table.schema_arrow.names), name, path)
        row = 0
        # Few rows: a dictionary of one long text makes thousands of long rows out of a small file.
        for batch in table.iter_batches(batch_size=16, columns=list(wanted.names)):
            for record in batch.to_pylist():
                row += 1
                yield of(record, wanted, f"{path}: row {row}", row)


def of(record: dict, wanted: Wanted, where: str, number: int = 0) -> Record:
    """The fields of a record, texts stripped; one text may be empty, of several none. `number`: of its line or row."""
    given, pieces = {}, []
    for name in wanted.texts:
        of_list = next(iter(wanted.lists(name)), None)
        given[name] = (
            of_list.join(_value(record, name, where), where) if of_list else field(record, name, where)
        )
        pieces.append(of_list.pieces(record[name], where) if of_list else ())
    texts = tuple(text.strip() for text in given.values())
    for name, text in zip(wanted.texts, texts, strict=True):
        if not text and len(texts) > 1:
            raise UserError(
                f'{where}: field "{name}" is empty; a record of several texts needs all of them '
                f"({', '.join(wanted.texts)}). Repair or remove the record, or leave that field out of text_fields."
            )
    values = []
    for column in wanted.values:
        value = _value(record, column.field, where)
        if isinstance(column, Label | Number):
            values.append(column.read(value, where))
        elif isinstance(column, Spans):
            values.append(column.read(value, given[column.text], where))
        else:
            values.append(column.read(value, record[column.text], where))
    of_texts = tuple(pieces) if any(pieces) else ()
    return Record(texts, tuple(values), of_texts, where if values else "", (0, number))


def field(record: dict, text_field: str, where: str) -> str:
    """`record[text_field]` as str; UserError that names the fields there are."""
    value = _value(record, text_field, where)
    if isinstance(value, bytes):
        return _decoded(value, where, 0)
    if not isinstance(value, str):
        raise UserError(
            f'{where}: field "{text_field}" is {type(value).__name__}, not text. Repair or remove the record.'
        )
    return spans.whole(value)


def _value(record: dict, name: str, where: str) -> Any:
    if name not in record:
        names = ", ".join(sorted(map(str, record))) or "none"
        raise UserError(
            f'{where}: no field "{name}".{did_you_mean(name, map(str, record))} Fields there: {names}. Name '
            "what holds the text: --config.data.text_field=NAME (of `jaxlm data`: --text-field=NAME)."
        )
    return record[name]


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """Number and text of every line. UserError for one that does not end, before it fills the memory."""
    with files.opened(path) as stream:
        for number, raw in enumerate(iter(partial(stream.readline, LONGEST_DOCUMENT + 1), b""), 1):
            _check_length(len(raw), path, number)
            yield number, _decoded(raw, path, number)


def _decoded(raw: bytes, path: str, number: int) -> str:
    try:
        # Not only at the beginning: `cat` of several files leaves their marks in the middle.
        return raw.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        where = f"{path}:{number}" if number else path
        raise UserError(f"{where}: not UTF-8 text ({error.reason}). Convert the file to UTF-8.") from error


def _check_length(size: int, path: str, number: int) -> None:
    if size > LONGEST_DOCUMENT:
        raise UserError(
            f"{path}:{number}: one line or document of more than {LONGEST_DOCUMENT >> 20} MiB. Separate the documents "
            "of a text file with blank lines, or use JSONL."
        )


READERS: dict[str, Callable[[str, Wanted], Iterator[Record]]] = {
    ".txt": read_text,
    ".text": read_text,
    ".tsv": read_columns,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".parquet": read_parquet,
}
