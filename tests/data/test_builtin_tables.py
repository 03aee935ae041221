"""Claims about built-in tables: their rows are read as a file's are, say of docstrings what is there, and stand alone."""

import collections
import json
import pathlib

import pytest

from jaxlm.data.corpus import builtin, builtin_tables, corpus
from jaxlm.data.corpus.columns import Label, Labels, Number
from jaxlm.data.corpus.spans import Spans, Tags
from jaxlm.errors import UserError

TYPES = ("array_like", "int", "float", "bool")
DOCUMENTS = [
    f"""Return number {i} of an array, element by element, as it stands in the documentation.

Takes number {i} along an axis; every element is looked at once, and what is left out stays as it was before that.

Parameters
a{i} : {TYPES[i % 4]}
    Input of {i}.
axis : {TYPES[(i + 1) % 4]}, optional
    Which of the {i}.
"""
    for i in range(120)
]
SOURCES = (
    "numpy/lib/_function_base_impl.py",
    "numpy/lib/_arraysetops_impl.py",
    "scipy/stats/_mstats_basic.py",
)
COLUMNS = {
    "pydocs_words": ({"text_field": "tokens"}, Tags(field="tags", text="tokens", between=" ", scheme="bio")),
    "pydocs_sections": ({}, Labels(field="labels", separator="|")),
    "pydocs_alike": ({"text_fields": ("sentence1", "sentence2")}, Number(field="score")),
    "pydocs_choices": ({"text_fields": ("question", "0", "1", "2", "3")}, Label(field="label")),
    "pydocs_relations": ({}, Label(field="label"), *(Spans(field=n, text="text") for n in ("head", "tail"))),
}


def rows(kind: str) -> list[dict]:
    return list(builtin_tables.KINDS[kind](DOCUMENTS))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("kind", builtin_tables.KINDS)
def test_real_docstrings_give_the_same_rows_each_time_and_no_text_twice(kind, cache, monkeypatch):
    files = [file for file in builtin.source_files() if file[0] in SOURCES]
    assert len(files) == len(SOURCES) and kind in builtin.NAMES
    monkeypatch.setattr(builtin, "source_files", lambda: files)
    monkeypatch.setattr(builtin_tables, "COMMON", 5)  # of few files
    texts, *columns = COLUMNS[kind]
    one = corpus.Corpus(
        source=f"builtin:{kind}", columns=tuple(columns), validation_share=0.0, test_share=0.0, **texts
    )
    source = corpus.open_source(one, cache, lambda line: None)
    records = list(source.records())
    (file,) = source.names()
    assert len(records) == len(pathlib.Path(file).read_text().splitlines()) > 20
    anew = corpus.open_source(one, cache / kind, lambda line: None)
    assert list(anew.records()) == records and anew.identity() == source.identity()
    assert max(collections.Counter(record.texts[0] for record in records).values()) == 1
    assert all(all(record.texts) for record in records)
    values = {json.dumps(record.values[0]) for record in records}
    assert len(values) >= 3, "more than one answer"


def test_words_are_marked_as_names_and_types_and_the_colon_is_left_out():
    row = rows("pydocs_words")[0]
    tagged = list(zip(row["tokens"], row["tags"], strict=True))
    assert [pair for pair in tagged if pair[1] != "O"] == [
        *[("a0", "B-NAME"), ("array_like", "B-TYPE"), ("axis", "B-NAME"), ("int,", "B-TYPE")],
        ("optional", "I-TYPE"),
    ]
    assert [word for word, tag in tagged if tag == "O"] == ["Input", "of", "0.", "Which", "of", "the", "0."]


def test_sections_are_told_by_how_they_begin_and_their_titles_do_not_stand_in_the_text():
    begin = "one : int\n    " + "The first. " * 20
    google = "Sums.\n\nArgs:\n  one: The first.\n\n  two: The second.\n\nReturns:\n  Their sum.\n\nExample:\n"
    numpy = (
        f"Sums.\n\nParameters\n{begin}\n\nSee also\nprod\n\nNotes\n\nAll are summed.\n\nRaises\nTypeError\n"
    )
    cut = begin[: builtin_tables.SECTION].rstrip()
    assert list(builtin_tables.sections([google, numpy])) == [
        {"text": "  one: The first.", "labels": ["parameters"]},
        {"text": "  Their sum.", "labels": ["returns"]},  # the example has no text
        {"text": cut, "labels": ["parameters"]},
        {"text": "prod\n\nAll are summed.", "labels": ["notes", "see also"]},
        {"text": "TypeError", "labels": ["raises"]},
    ]


def test_one_of_four_choices_is_right_and_each_place_is_as_often():
    found = rows("pydocs_choices")
    assert found[0]["question"] == "a0: Input of 0." and found[1]["question"] == "axis: Which of the 0."
    for i, row in enumerate(found):
        assert {row[str(k)] for k in range(4)} == set(TYPES)
        assert row[row["label"]] == TYPES[(i + 1) // 2 % 4]
    assert set(collections.Counter(row["label"] for row in found).values()) == {60}


def test_parts_are_related_as_the_label_says():
    found = rows("pydocs_relations")
    for row in found:
        head, tail = (row["text"][slice(*row[k].values())] for k in ("head", "tail"))
        pair = {"type(e1,e2)": (head, tail), "type(e2,e1)": (tail, head)}.get(row["label"])
        assert (
            (f"{head} : {tail}" not in row["text"])
            if pair is None
            else f"{pair[0]} : {pair[1]}\n" in row["text"]
        )
    assert set(collections.Counter(row["label"] for row in found).values()) == {40}


def test_paragraphs_are_as_alike_as_they_stand_near_and_each_is_in_one_pair():
    near = collections.defaultdict(set)
    number = {" ".join(part.split()): i for i, text in enumerate(DOCUMENTS) for part in text.split("\n\n")}
    for row in rows("pydocs_alike"):
        near[row["score"]].add(abs(number[row["sentence1"]] - number[row["sentence2"]]))
    assert near[5.0] == {0} and near[2.5] == {1} and min(near[0.0]) > 50
    texts = [row[name] for row in rows("pydocs_alike") for name in ("sentence1", "sentence2")]
    assert len(texts) == len(set(texts)) == 240


def test_a_name_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    text = corpus.Corpus(source="builtin:pydocs_word", validation_share=0.0, test_share=0.0)
    with pytest.raises(
        UserError, match=r'allowed: builtin:pydocs, .*builtin:pydocs_words.* Did you mean "pydocs_words"'
    ):
        corpus.open_source(text, tmp_path)


def test_fields_that_a_table_lacks_are_refused_with_those_it_has(cache, monkeypatch):
    files = [file for file in builtin.source_files() if file[0] in SOURCES]
    monkeypatch.setattr(builtin, "source_files", lambda: files)
    one = corpus.Corpus(source="builtin:pydocs_words", validation_share=0.0, test_share=0.0)
    with pytest.raises(UserError, match='rows.jsonl:1: .*"text".*tokens'):
        next(corpus.open_source(one, cache, lambda line: None).records())
