"""Claims about `jaxlm predict`: every row keeps its columns and gets what the model makes of its text, or none is written."""

import csv
import gzip
import io
import json
import sys

import numpy as np
import pyarrow.parquet
import pytest

from jaxlm.commands import predict
from jaxlm.data.corpus import readers
from jaxlm.errors import UserError
from jaxlm.infer import answers, fill_mask, frame, loaded, text_reading
from jaxlm.infer.sampling import Sampling
from tests.exchange.folders import hf_folder
from tests.infer.test_answers import written_folder

MASKED = ["the cat [MASK] on the mat", "a [MASK] and a [MASK] play", "the cat [MASK] on the mat"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return f"hf:{hf_folder(tmp_path_factory.mktemp('bert'), heads=('tokens',))}"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return f"hf:{hf_folder(tmp_path_factory.mktemp('encoder'), heads=('pooler',))}"


def ran(run, *words):
    assert predict.main(["predict", f"--run={run}", *map(str, words)]) == 0


def test_masks_of_a_csv_are_filled_and_its_columns_stay(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "AT_ONCE", 2)  # the table is written in two parts
    rows = [{"id": str(i), "note": 'a "b", c\nd', "sentence": text} for i, text in enumerate(MASKED)]
    with (tmp_path / "in.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    ran(bert, f"--input={tmp_path / 'in.csv'}", f"--output={tmp_path / 'out.csv'}", "--text-field=sentence")
    with (tmp_path / "out.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    expected = [
        [one.candidates[0] for one in fill_mask.fill(loaded.load(bert), [text], top=1)] for text in MASKED
    ]
    assert [json.loads(row["tokens"]) for row in found] == [[token for token, _ in one] for one in expected]
    shares = [share for row in found for share in json.loads(row["probabilities"])]
    np.testing.assert_allclose(shares, [share for one in expected for _, share in one], rtol=1e-5)


def test_a_decoder_answers_every_line_of_json_as_generate_does(tmp_path, capsys):
    folder = f"hf:{written_folder(tmp_path / 'gpt2', 'GPT-2')}"
    rows = [{"text": "the cat", "n": [1, {"é": None}]}, {"text": "a dog and", "n": 2}]
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    ran(folder, f"--input={tmp_path / 'in.jsonl.gz'}", "--max-new-tokens=5")
    found = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [{"text": row["text"], "n": row["n"]} for row in found] == rows
    model = loaded.load(folder)
    greedy = {"new_tokens": 5, "sampling": Sampling(), "seed": 0}
    expected, _ = answers.answer(model, frame.of_loaded(model), [row["text"] for row in rows], **greedy)
    assert [(row["answer"], row["ended_by"]) for row in found] == [
        (one.text, one.written.reason) for one in expected
    ]


def test_an_encoder_without_a_token_head_embeds_a_parquet_file(encoder, tmp_path):
    texts = ["the cat sat", "a dog", "the garden has a red door"]
    table = pyarrow.table({"text": texts, "score": [0.5, 1.5, 2.5]})
    pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
    ran(encoder, f"--input={tmp_path / 'in.parquet'}", f"--output={tmp_path / 'out.parquet'}")
    found = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert found.drop_columns("vector").equals(table)
    expected, _ = text_reading.vectors(loaded.load(encoder), texts)
    np.testing.assert_allclose(np.array(found["vector"].to_pylist()), expected, rtol=1e-6)


def test_lines_of_stdin_and_texts_behind_the_options_are_rows(bert, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(MASKED).encode())))
    ran(bert, "--input=-", f"--output={tmp_path / 'out.tsv'}")
    assert [line.split("\t")[0] for line in (tmp_path / "out.tsv").read_text().splitlines()] == [
        "text",
        *MASKED,
    ]
    ran(bert, MASKED[1], "--json")
    out, err = capsys.readouterr()
    assert len(json.loads(out)["tokens"]) == 2 and "1 rows in" in err


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        (["text", "a [MASK]", "no mask here"], [], r"in\.csv:3: 'no mask here' has no \[MASK\] to fill"),
        (
            ["text,n", "a [MASK],1", ",2"],
            [],
            r'in\.csv:3: field "text" must be a text that is not empty, and is',
        ),
        (
            ["review", "a [MASK]"],
            [],
            r"in\.csv:2: field \"text\" .* Fields there: review\. Fix: --text-field=NAME",
        ),
        (
            ["text,tokens", "a [MASK],1"],
            [],
            r"in\.csv:2: the answers need a column 'tokens', and there is one",
        ),
        (["text"], [], "There is no text"),
        (["text", "a [MASK]"], ["b [MASK]"], "give one of the two"),
        (["text", "a [MASK]"], ["--json"], r"out\.csv: the name of a table of JSON lines ends in \.jsonl\."),
    ],
)
def test_a_row_that_cannot_be_answered_is_named_and_no_table_is_left(bert, tmp_path, rows, words, message):
    (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(UserError, match=message):
        ran(bert, f"--input={tmp_path / 'in.csv'}", f"--output={tmp_path / 'out.csv'}", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_table_of_no_known_kind_is_refused(bert, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.csv or \.tsv or \.jsonl or \.parquet\."):
        ran(bert, "a [MASK]", f"--output={tmp_path / 'out.xlsx'}")
