"""Claims about built-in tables: their rows are read as a file's would be, and say of docstrings what is there."""

import json

import pytest

from jaxlm.data.corpus import builtin_tables, corpus, readers
from jaxlm.data.corpus.columns import Label, Labels, Number
from jaxlm.data.corpus.spans import Spans, Tags
from jaxlm.errors import UserError

DOCUMENTS = [
    f"""Return the {thing} of an array, element by element, as it stands in the documentation.

Takes the {thing} along an axis; every element is looked at once, and what is left out stays as it was before that.

Parameters
{name} : array_like
    Input of the {thing}.
axis : int, optional
    Which of the {thing}s.

Returns
out : ndarray
    The {thing}."""
    for thing, name in (("mean", "a"), ("sum", "values"), ("root", "x"), ("largest", "ar"), ("median", "q"))
]
COLUMNS = {
    "pydocs_words": ({"text_field": "tokens"}, Tags(field="tags", text="tokens", between=" ", scheme="bio")),
    "pydocs_sections": ({}, Labels(field="labels", separator="|")),
    "pydocs_alike": ({"text_fields": ("sentence1", "sentence2")}, Number(field="score")),
    "pydocs_choices": ({"text_fields": ("question", "0", "1", "2", "3")}, Label(field="label")),
    "pydocs_relations": ({}, Spans(field="head", text="text"), Spans(field="tail", text="text")),
}


def test_every_row_is_read_as_that_of_a_file(tmp_path):
    assert set(COLUMNS) == set(builtin_tables.KINDS)
    for kind, (texts, *columns) in COLUMNS.items():
        rows = list(builtin_tables.KINDS[kind](DOCUMENTS))
        assert len(rows) >= len(DOCUMENTS), kind
        (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = corpus.Corpus(
            source=str(tmp_path / f"{kind}.jsonl"),
            columns=tuple(columns),
            validation_share=0.0,
            test_share=0.0,
            **texts,
        )
        records = list(corpus.open_source(text, tmp_path).records())
        assert [readers.of(row, text.wanted, "here") for row in rows] == records


def test_rows_say_what_is_there():
    (words, *_), (sections, *_) = (
        list(builtin_tables.KINDS[k](DOCUMENTS)) for k in ("pydocs_words", "pydocs_sections")
    )
    tagged = [(word, tag) for word, tag in zip(words["tokens"], words["tags"], strict=True) if tag != "O"]
    names = [("a", "B-NAME"), ("array_like", "B-TYPE"), ("axis", "B-NAME"), ("int,", "B-TYPE")]
    assert tagged == [*names, ("optional", "I-TYPE")]
    assert sections["labels"] == ["Parameters", "Returns"] and "Returns\n" not in sections["text"]
    for row in builtin_tables.relations(DOCUMENTS):
        head, tail = (row["text"][slice(*row[k].values())] for k in ("head", "tail"))
        pair = {"type(e1,e2)": (head, tail), "type(e2,e1)": (tail, head)}.get(row["label"])
        assert pair is None or f"{pair[0]} : {pair[1]}\n" in row["text"]
    for row, text in zip(builtin_tables.choices(DOCUMENTS), DOCUMENTS, strict=True):
        assert text.startswith(row[row["label"]]) and len({row[str(k)] for k in range(4)}) > 1
    scores = {row["score"] for row in builtin_tables.alike(DOCUMENTS)}
    assert scores == {0.0, 2.5, 5.0}


def test_a_name_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    text = corpus.Corpus(source="builtin:pydocs_word", validation_share=0.0, test_share=0.0)
    with pytest.raises(
        UserError, match=r'allowed: builtin:pydocs, .*builtin:pydocs_words.* Did you mean "pydocs_words"'
    ):
        corpus.open_source(text, tmp_path)
