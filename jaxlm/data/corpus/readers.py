"""Records of one file. In: a path of a known kind and the names of the text fields. Out: an iterator of `Record`.

`.txt`: documents are separated by blank lines. `.csv`, `.tsv`: a row a document, see `tables`. `.jsonl` (.ndjson,
.json): one JSON object a line, the document in the text field. `.json` in SQuAD's form: a question a document, see
`squad`. `.parquet`: one row a document. `.conll`, `.conllu`: words and their tags, see `conll`. Streaming: one document
(or Parquet batch, or file of SQuAD) in memory.
What cannot be read is a UserError with file and line.
"""

import dataclasses
import io
import itertools
import json
import shlex
from collections.abc import Iterator
from typing import Any, TypeVar

from jaxlm.data.corpus import answers, chats, conll, extras, files, lines, spans, squad, tables
from jaxlm.data.corpus.answers import Answers
from jaxlm.data.corpus.chats import Choice, Messages
from jaxlm.data.corpus.columns import Label, Labels, Number, Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.spans import Spans
from jaxlm.errors import UserError, did_you_mean

_JSON_LINES = (".jsonl", ".ndjson", ".json")
_TEXTS = (".txt", ".text")
AT_ONCE = 1024  # rows of a table that are read, computed and written together
_Row = tuple[str, int, dict[str, Any]]
_Any = TypeVar("_Any")


def read(path: str, wanted: Wanted) -> Iterator[Record]:
    """All records of a file in order; those of one empty text are left out."""
    if not is_table(path):
        return (Record((text,), origin=(0, number)) for number, text in read_text(path, wanted))
    made = (of(row, wanted, where, number) for where, number, row in rows(path, wanted))
    return (record for record in made if record.texts[0])


def rows(path: str, wanted: Wanted, whole: bool = False) -> Iterator[_Row]:
    """(where it stands, number of its line or row, {field: value}) of every row of a table, in order.

    Of Parquet only the wanted fields are read, unless `whole`.
    """
    return answers.completed(_rows(path, wanted, whole), wanted.values)


def _rows(path: str, wanted: Wanted, whole: bool) -> Iterator[_Row]:
    kind = files.suffixes(path)[0]
    if kind == ".json" and (found := squad.rows(path)) is not None:
        return found
    if kind == ".parquet":
        return _parquet(path, wanted, whole or wanted.chat is not None)
    if kind in conll.KINDS:
        return ((f"{path}:{number}", number, row) for number, row in conll.read(path, kind == ".conllu"))
    return _json_lines(path) if kind in _JSON_LINES else _table(path, wanted)


def is_table(path: str) -> bool:
    """Whether it is of a known kind with rows and fields."""
    kind = files.suffixes(path)[0]
    return kind in files.KINDS and kind not in _TEXTS


def together(records: Iterator[_Any]) -> Iterator[list[_Any]]:
    """`AT_ONCE` at a time, the last fewer."""
    return iter(lambda: list(itertools.islice(records, AT_ONCE)), [])


def read_text(path: str, wanted: Wanted) -> Iterator[tuple[int, str]]:
    """Blocks between blank lines, with the number of their first; line breaks inside a block are kept."""
    if len(wanted.names) > 1:
        raise UserError(
            f"corpus file {path}: a text file has no fields, and {', '.join(wanted.names)} are asked for. Use CSV, "
            'JSONL or Parquet, or "--config.data.text_fields=()" "--config.data.columns=()".'
        )
    block: list[str] = []
    size = first = 0
    for number, whole in lines.numbered(path):
        # A line may end in a bare carriage return, too.
        for line in io.StringIO(whole, newline="") if "\r" in whole else (whole,):
            size += len(line)
            if line.strip():
                first = first if block else number
                block.append(line)
            if block and (not line.strip() or size > lines.LONGEST_DOCUMENT):
                lines.check_length(size, path, number)
                yield first, "".join(block).strip()
                block, size = [], 0
    if block:
        yield first, "".join(block).strip()


def _table(path: str, wanted: Wanted) -> Iterator[_Row]:
    """The cells of every row; of a .tsv without a header the columns are the wanted ones in order."""
    reader = tables.read_tsv if files.suffixes(path)[0] == ".tsv" else tables.read_csv
    for number, cells in reader(path, wanted.known):
        yield f"{path}:{number}", number, cells


def _json_lines(path: str) -> Iterator[_Row]:
    """One JSON object a line; blank lines are skipped."""
    for number, line in lines.numbered(path):
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
        yield f"{path}:{number}", number, record


def _parquet(path: str, wanted: Wanted, whole: bool) -> Iterator[_Row]:
    """The columns, in batches of rows."""
    if files.suffixes(path)[1]:
        raise UserError(
            f"corpus file {path}: Parquet is compressed inside and read out of order: decompress the file."
        )
    parquet = extras.require("pyarrow.parquet", "parquet", "reading .parquet files")
    with files.opened(path) as stream:
        table = parquet.ParquetFile(stream)
        for name in () if wanted.chat else wanted.names:
            _value(dict.fromkeys(table.schema_arrow.names), name, wanted, path)
        row = 0
        # Few rows: a dictionary of one long text makes thousands of long rows out of a small file.
        for batch in table.iter_batches(batch_size=16, columns=None if whole else list(wanted.names)):
            for record in batch.to_pylist():
                row += 1
                yield f"{path}: row {row}", row, record


def of(record: dict, wanted: Wanted, where: str, number: int = 0) -> Record:
    """The fields of a record, texts stripped; one text may be empty, of several none. `number`: of its line or row."""
    given, pieces, conversations = {}, [], ()
    if wanted.chat is not None:
        conversations = wanted.chat[1].read(record, wanted.texts, where)
        first, *others = (
            chats.text_of(one.messages[one.given * (i > 0) :]) for i, one in enumerate(conversations)
        )
        given = dict(zip(wanted.texts, (first, *others), strict=True))
    for name in () if conversations else wanted.texts:
        of_list = next(iter(wanted.lists(name)), None)
        given[name] = (
            of_list.join(_value(record, name, wanted, where), where)
            if of_list
            else _text(record, name, wanted, where)
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
        if isinstance(column, Messages | Choice):
            values.append(conversations)
            continue
        value = _value(record, column.field, wanted, where)
        if isinstance(column, Label | Labels | Number):
            values.append(column.read(value, where))
        elif isinstance(column, Spans | Answers):
            values.append(column.read(value, given[column.text], where))
        else:
            values.append(column.read(value, record[column.text], where))
    of_texts = tuple(pieces) if any(pieces) else ()
    return Record(texts, tuple(values), of_texts, where if values else "", (0, number))


def _text(record: dict, name: str, wanted: Wanted, where: str) -> str:
    """`record[name]` as str; UserError for anything else."""
    value = _value(record, name, wanted, where)
    if isinstance(value, bytes):
        return lines.decoded(value, where, 0)
    if not isinstance(value, str):
        raise UserError(
            f'{where}: field "{name}" is {type(value).__name__}, not text. Repair or remove the record.'
        )
    return spans.whole(value)


def _value(record: dict, name: str, wanted: Wanted, where: str) -> Any:
    """`record[name]`; UserError that names the fields there are, and the flag to type."""
    if name in record:
        return record[name]
    there = [str(key) for key in record]
    free = [key for key in there if key not in wanted.names]
    # Unless a name is close, what holds the text is the longest.
    longest = max(
        free, key=lambda key: len(value) if isinstance(value := record.get(key), str) else 0, default="NAME"
    )
    near = did_you_mean(name, free)
    meant = near.split('"')[1] if near else longest
    raise UserError(
        f'{where}: no field "{name}".{near} Fields there: {", ".join(map(_short, there)) or "none"}. '
        f"Fix: {_naming(name, meant, wanted)}"
    )


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}..."


def _naming(name: str, meant: str, wanted: Wanted) -> str:
    """The flags that read the field `meant` in place of `name`."""
    if name not in wanted.texts:
        columns = tuple(
            dataclasses.replace(one, field=meant) if one.field == name else one for one in wanted.values
        )
        return f'"--config.data.columns={columns}" (of `jaxlm data`: --labels or --numbers).'
    if len(wanted.texts) == 1:
        return f"--config.data.text_field={shlex.quote(meant)} (of `jaxlm data`: --text-field={shlex.quote(meant)})."
    names = tuple(meant if one == name else one for one in wanted.texts)
    return f'"--config.data.text_fields={names}" (of `jaxlm data`: --text-fields={",".join(names)}).'
