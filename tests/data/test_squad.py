"""Claims about questions with answers: SQuAD's files and flat rows give the same records, and what is wrong is named."""

import gzip
import json

import numpy as np
import pytest

from jaxlm.data.corpus import answers, readers
from jaxlm.data.corpus.columns import Answers, Wanted
from jaxlm.errors import UserError

COLUMN = Answers(field="answers", text="context")
WANTED = Wanted(("question", "context"), (COLUMN,))
CONTEXT = "  The cat sat on the mat, 猫."
GIVEN = [{"text": "on the mat", "answer_start": 14}, {"text": "the mat", "answer_start": 17}]


def squad(*questions, context=CONTEXT):
    return {
        "version": "v2.0",
        "data": [{"title": "t", "paragraphs": [{"context": context, "qas": questions}]}],
    }


def question(**more):
    return {"id": "q7", "question": "Where?", "answers": GIVEN} | more


def said(path):
    return [
        (record.texts[0], [record.texts[1][a:b] for a, b, _ in record.values[0]])
        for record in readers.read(str(path), WANTED)
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_squad_files_of_one_line_and_of_many_give_a_record_for_every_question(tmp_path, indent):
    none = question(id="q8", is_impossible=True, plausible_answers=GIVEN)
    text = json.dumps(squad(question(), none), indent=indent)
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.json", "a.json.gz"):
        assert said(tmp_path / name) == [("Where?", ["on the mat", "the mat"]), ("Where?", [])]
    whole = [row for _, _, row in readers.rows(str(tmp_path / "a.json"), Wanted(("question",)), whole=True)]
    assert [(row["id"], row["title"], len(row["answers"])) for row in whole] == [
        ("q7", "t", 2),
        ("q8", "t", 0),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"answers": {"text": ["on the mat", "the mat"], "answer_start": [14, 17]}},
            ["on the mat", "the mat"],
        ),
        ({"answers": GIVEN}, ["on the mat", "the mat"]),
        ({"answers": GIVEN[0]}, ["on the mat"]),
        ({"answers": {"text": [], "answer_start": []}}, []),
        ({"answers": None}, []),
        ({"answer": "the mat", "start": 17}, ["the mat"]),
        ({"answer": " the mat", "answer_start": 16}, ["the mat"]),
        ({"answer": "", "start": None}, []),
    ],
    ids=str,
)
def test_flat_rows_say_their_answers_in_any_of_these_forms(tmp_path, row, expected):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": "Where?", "context": CONTEXT} | row))
    assert said(path) == [("Where?", expected)]


def test_a_table_has_an_answer_and_its_start(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('question,context,answer,start\nWhere?,"a cat, here",here,7\nWho?,"a dog",,\n')
    assert said(path) == [("Where?", ["here"]), ("Who?", [])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"answers": [{"text": "the mat", "answer_start": 18}]},
            r'a\.json: question 1 \(id q7\): the answer "the mat" is said to stand at 18, and there stands "he mat,"\. '
            r'The first "the mat" of the text is at 17',
        ),
        ({"answers": [{"text": "a dog", "answer_start": -3}]}, r'stand at -3, and there stands ""\. Offsets'),
        ({"answers": [{"text": "", "answer_start": 0}]}, "a text that is not empty"),
        ({"answers": [{"text": "cat", "answer_start": "6"}]}, "and a whole number"),
        ({"answers": "cat"}, r"field \"answers\" is 'cat'; allowed are"),
        ({"answers": {"text": ["cat"], "answer_start": []}}, "allowed are"),
        ({"question": None}, r'field "question" is NoneType, not text'),
        ({"question": "  "}, 'field "question" is empty'),
    ],
    ids=str,
)  # fmt: skip
def test_an_answer_that_is_not_there_is_named_with_its_question(tmp_path, change, message):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(squad(question(**change))))
    with pytest.raises(UserError, match=message):
        said(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"data": [{"title": "a", "paragraphs": [{"context": "b"}]}]}',
            "the first paragraph: not in SQuAD's form",
        ),
        ('{"data": [{"title": "a", "paragraphs": [{"qas": ["b"]}]}]}', "question 1: not in SQuAD's form"),
        ('{\n"data": [{"title": "a", "paragraphs": [', "not valid JSON: cut short"),
        ('{"data": []}', 'no field "question"'),
    ],
)
def test_a_file_in_no_form_is_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=message):
        said(tmp_path / "a.json")


def test_json_lines_that_end_in_json_are_lines_still(tmp_path):
    (tmp_path / "a.json").write_text('\n{"text": "one", "data": [1]}\n{"text": "two"}\n')
    assert [r.texts for r in readers.read(str(tmp_path / "a.json"), Wanted(("text",)))] == [
        ("one",),
        ("two",),
    ]


def test_an_answer_is_the_tokens_that_it_touches():
    offsets = np.array([[0, 3], [4, 7], [7, 9], [10, 14]])
    assert answers.of_tokens(((5, 8, "a"), (0, 3, "a")), offsets).tolist() == [0, 1, 2, 0]
    assert answers.of_tokens(((0, 3, "a"),), offsets).tolist() == [1, 0, 0, 0]
    assert answers.of_tokens(((3, 4, "a"),), offsets).tolist() == [0, 0, 0, 0]  # a space between two
    assert answers.of_tokens((), offsets).tolist() == [0, 0, 0, 0]


def test_a_column_of_answers_is_about_one_of_the_texts():
    with pytest.raises(UserError, match=r'spans of "context", which is no text field'):
        COLUMN.check(("text",), "config.data.columns[0]")
