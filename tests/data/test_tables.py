"""Tables: CSV and TSV give the documents that csv wrote, whatever is in them; what is wrong is named with its line."""

import csv
import gzip
import io
import json
import pathlib

import fsspec
import pytest
import zstandard

from jaxlm.data.corpus import corpus, tables
from jaxlm.data.corpus.columns import Label, Number
from jaxlm.data.shards import prepare, shards
from jaxlm.data.tokenizer import WordPiece
from jaxlm.errors import UserError

ROWS = [
    {"id": "1", "review": "A fine film.", "label": "good", "stars": "4.5"},
    {
        "id": "2",
        "review": 'They said "no", twice,\nand left.\r\nThen\tcame back.',
        "label": "bad",
        "stars": "1",
    },
    {"id": "3", "review": "Ein Film, schön und lang: 中文", "label": "good", "stars": "5"},
    {"id": "4", "review": "   ", "label": "good", "stars": "3"},  # no document
    {"id": "5", "review": 'It\'s \\n fine; "quoted"', "label": "so-so", "stars": "3e0"},
]
TEXTS = [row["review"] for row in ROWS if row["review"].strip()]
FIRST_LINES = [2, 3, 6, 8]


def table(rows=ROWS, **dialect) -> bytes:
    """As Python, pandas and spreadsheets write it."""
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, list(rows[0]), **dialect)
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue().encode()


def put(path: pathlib.Path, data: bytes | str) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def records(source, **settings):
    settings = {"text_field": "review", "validation_share": 0.0, "test_share": 0.0, **settings}
    return list(corpus.open_source(corpus.Corpus(source=str(source), **settings), "").records())


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a.csv", table()),
        ("a.csv", table(quoting=csv.QUOTE_ALL, lineterminator="\n")),
        ("a.csv", b"\xef\xbb\xbf" + table(delimiter=";")),  # Excel, where the comma is for decimals
        ("a.csv", table(delimiter="\t")),
        ("a.tsv", table(delimiter="\t")),
        ("a.csv.gz", gzip.compress(table())),
        ("a.tsv.zst", zstandard.compress(table(delimiter="\t"))),
        ("folder/A.CSV", b"\n \n" + table().replace(b"id,review", b'id, "review"')),
    ],
)
def test_every_way_to_write_a_table_gives_its_cells(tmp_path, name, written):
    put(tmp_path / name, written)
    columns = (Label(field="label"), Number(field="stars"))
    read = records(tmp_path / name.split("/")[0], columns=columns)
    assert [record.texts[0] for record in read] == TEXTS
    assert [record.values for record in read] == [("good", 4.5), ("bad", 1.0), ("good", 5.0), ("so-so", 3.0)]
    moved = 2 if "folder" in name else 0
    assert [record.origin for record in read] == [(0, line + moved) for line in FIRST_LINES]
    assert read[0].where.endswith(f":{2 + moved}")


def test_a_list_of_files_is_read_in_its_order_each_once(tmp_path):
    for name in ("a", "b", "c, d"):
        put(tmp_path / f"{name}.csv", f"id,review\n1,of {name[0]}\n")
    put(tmp_path / "e.jsonl", '{"review": "of e"}\n')
    b, a, pair = (tmp_path / f"{name}.csv" for name in ("b", "a", "c, d"))
    read = records(f"{b},{a}, {tmp_path}/e.jsonl,{tmp_path}/[ab].csv")
    assert [record.texts[0] for record in read] == ["of b", "of a", "of e"]
    assert [record.origin for record in read] == [(0, 2), (1, 2), (2, 1)]
    assert records(pair)[0].texts == ("of c",), "a comma may be part of a name"
    with pytest.raises(UserError, match=rf'"{tmp_path}/f.csv": no such file.*Did you mean "{tmp_path}/'):
        records(f"{a},{tmp_path}/f.csv")


def test_several_texts_of_a_row(tmp_path):
    path = put(tmp_path / "a.csv", "b,a,c\nyes,no,x\n")
    assert records(path, text_fields=("a", "b"))[0].texts == ("no", "yes")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("id,text,label\n1,a,b\n", r'a.csv:2: no field "review"\. Fields there: id, text, label\. Fix: --config.data'),
        ("id,reviews\n1,a\n", r'no field "review"\. Did you mean "reviews"\?.*--config.data.text_field=reviews '),
        ("id,my text\n1,long enough\n", r"--config.data.text_field='my text' \(of `jaxlm data`: --text-field='my"),
        ("id,review\n1,a\n2,a,b\n", r"a.csv:3: 3 cells, and the header names 2 columns \(id, review\)\. A cell with"),
        ("id,review\n1,a\n\n2\n", r"a.csv:4: 1 cells, and the header names 2 columns"),
        ('id,review\n1,a\n2,"b\n3,c\n', r"a.csv:3: not a row of a table \(unexpected end of data\)"),
        ('id,review\n1,a\n2,"b"c"\n', r"a.csv:3: not a row of a table \(',' expected after '\"'\)"),
        ("id,review\r1,a\r", r"a.csv:1: not a row of a table .*a line ends in a line feed"),
        (b"id,review\n1,a\n2,sch\xf6n\n", r"a.csv:3: not UTF-8 text"),
        ("review,review\n1,a\n", r"a.csv:1: two columns are called 'review'"),
        ('id,review\n1,a\n2,"' + "b\n" * 600, r"a.csv:3: not a row of a table \(a row of more than"),
        ("id,review\n1," + "b" * 2000, r"a.csv:2: not a row of a table \(a row of more than"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_named_with_its_line(tmp_path, monkeypatch, written, message):
    monkeypatch.setattr(tables, "LONGEST_ROW", 1000)
    with pytest.raises(UserError, match=message):
        records(put(tmp_path / "a.csv", written))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            Label(field="lable"),
            r'a.csv:2: no field "lable"\. Did you mean "label".*columns=\(Label\(field=.label',
        ),
        (Number(field="label"), r'a.csv:2: field "label" is \'good\'; it must be a finite number'),
        (Label(field="empty"), r'a.csv:2: field "empty" is \'\'; it must be a label'),
    ],
)
def test_a_column_that_is_wrong_is_named_with_its_line(tmp_path, column, message):
    path = put(tmp_path / "a.csv", "review,label,empty\na,good,\n")
    with pytest.raises(UserError, match=message):
        records(path, columns=(column,))


def test_a_tsv_without_a_wanted_name_in_its_first_line_has_no_header(tmp_path):
    path = put(tmp_path / "a.tsv", 'a "bare quote\tgood\nb\tbad\n')
    read = records(path, columns=(Label(field="label"),))
    assert [(r.texts[0], r.values[0]) for r in read] == [('a "bare quote', "good"), ("b", "bad")]
    with pytest.raises(UserError, match=r"a.tsv:1: 2 columns, and 1 asked for \(review\).*text_field=NAME"):
        records(path)


@pytest.mark.parametrize("written", ["", "\n\n", "id,review\n", "id,review\n1,\n"])
def test_a_table_without_a_text_has_no_documents(tmp_path, written):
    assert records(put(tmp_path / "a.csv", written)) == []


def test_labelled_rows_are_prepared_as_those_of_json_lines_in_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SMALLEST_PART", 5000)
    rows = [{"review": f'Film {i} is\nno. {i * i}, not "{i}".', "label": f"of {i % 3}"} for i in range(2000)]

    def prepared(path, processes):
        text = corpus.Corpus(
            source=str(path),
            text_field="review",
            columns=(Label(field="label"),),
            validation_share=0.1,
            test_share=0.0,
        )
        options = {"processes": processes, "cache": tmp_path / "cache", "log": lambda _: None}
        made = prepare.prepare(text, WordPiece(vocab_size=150, lowercase=True), sentences=False, **options)
        fingerprint = made.tokenizer.fingerprint
        train = shards.open_shards(made.directory, "train", tokenizer_fingerprint=fingerprint)
        documents = [one.tolist() for one in train.__getitems__(range(len(train)))]
        return fingerprint, documents, train.array("label").tolist()

    one = prepared(put(tmp_path / "a.csv", table(rows)), 2)
    assert one == prepared(put(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), 1)
    assert len(one[1]) > 1700 and set(one[2]) == {0, 1, 2}


def test_a_table_in_a_bucket():
    fsspec.filesystem("memory").pipe_file("/tables/a.csv.gz", gzip.compress(table()))
    read = records("memory://tables/*.csv.gz,memory://tables/a.csv.gz")
    assert [record.texts[0] for record in read] == TEXTS
