"""Spans, tags and turns as values of tokens: against spans found by hand in the text, and what is refused."""

import builtins
import json
import pickle
import re

import numpy as np
import pytest

from jaxlm.data.corpus import spans
from jaxlm.data.corpus.columns import Label, Spans, Tags, Turns
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.corpus.steps import Clean, KeepLength
from jaxlm.data.shards import prepare, shards
from jaxlm.data.tokenizer import ByteBpe, Pretrained, Unigram, WordPiece
from jaxlm.errors import UserError

TOKENIZERS = {
    "wordpiece": WordPiece(vocab_size=150, lowercase=True),
    "bytes": ByteBpe(vocab_size=300, sentinels=0, infill="off"),
    "unigram": Unigram(vocab_size=400, sentinels=0),  # trained on more than the records, see `run`
}
NAMES = ["Ada Lovelace", "Émile", "Grace Hopper"]
TOWNS = ["London", "New York City", "Paris"]


def about(i):
    """A record whose spans stand where the text says."""
    name, town = NAMES[i % 3], TOWNS[i * 5 % 7 % 3]
    text = f"  In {1900 + i}, {name} saw {town}! "
    found = [
        {"start": text.index(part), "end": text.index(part) + len(part), "label": label, "text": part}
        for part, label in ((town, "LOC"), (name, "PER"))
    ]
    return {"text": text, "entities": found, "year": {"start": 5, "end": 9}, "genre": "news"}


RECORDS = [about(i) for i in range(90)]
ENTITIES, YEAR = Spans(field="entities", text="text"), Spans(field="year", text="text")


def write(tmp_path, records):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def run(tmp_path, records, columns, tokenizer="wordpiece", sentences=False, **fields):
    text = Corpus(
        source=str(write(tmp_path, records)), columns=columns, validation_share=0.2, test_share=0.0, **fields
    )
    config = TOKENIZERS[tokenizer]
    if tokenizer == "unigram":
        more = [line for one in vars(builtins).values() for line in (one.__doc__ or "").split("\n")]
        config.make([*more, *[repr(record) for record in records] * 9]).save(tmp_path)
        config = Pretrained(path=str(tmp_path))
    return prepare.prepare(
        text,
        config,
        sentences=sentences,
        cache=tmp_path / "cache",
        processes=1,
        log=lambda _: None,
    )


def opened(made, split="train"):
    found = shards.open_shards(made.directory, split, tokenizer_fingerprint=made.tokenizer.fingerprint)
    return pickle.loads(pickle.dumps(found))


def parts(made, split, field, k):
    """(label, text without spaces, lower case) of every span of document k, from its tokens alone."""
    read = opened(made, split)
    names, values, ids = read.labels(field), read.value(field, k), read[k]
    assert values.dtype == np.int32 and len(values) == len(ids) == read.lengths[k]
    found = []
    for id, value in zip(ids.tolist(), values.tolist(), strict=True):
        if value % 2:
            found.append((names[value // 2], []))
        elif value:
            assert found and found[-1][0] == names[value // 2 - 1], "it goes on with the span before it"
        if value:
            found[-1][1].append(id)
    return [(label, squeezed(made.tokenizer.decode(ids))) for label, ids in found]


def squeezed(text):
    return "".join(text.lower().replace("é", "e").split())


@pytest.mark.parametrize("part", [2**20, 400])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_the_tokens_of_a_span_know_it_and_its_first_token(tmp_path, monkeypatch, tokenizer, part):
    monkeypatch.setattr(prepare, "SMALLEST_PART", part)
    made = run(tmp_path, RECORDS, (ENTITIES, Label(field="genre"), YEAR), tokenizer)
    assert made.index["columns"] == {"entities": ["LOC", "PER"], "genre": ["news"], "year": ["year"]}
    seen = set()
    for split in ("train", "validation"):
        read = opened(made, split)
        for k in range(len(read)):
            year = int(parts(made, split, "year", k)[0][1])
            spans = sorted(RECORDS[year - 1900]["entities"], key=lambda span: span["start"])
            expected = [(span["label"], squeezed(span["text"])) for span in spans]
            assert parts(made, split, "entities", k) == expected
            assert read.value("genre", k).shape == ()
            seen.add(year)
    assert len(seen) == len(RECORDS)


def test_the_tokens_are_those_of_the_corpus_without_the_column(tmp_path):
    one, other = run(tmp_path, RECORDS, (ENTITIES,)), run(tmp_path, RECORDS, ())
    assert one.fingerprint != other.fingerprint
    assert all(np.array_equal(a, b) for a, b in zip(opened(one), opened(other), strict=True))
    moved = [{**RECORDS[0], "entities": RECORDS[0]["entities"][:1]}, *RECORDS[1:]]
    assert run(tmp_path, moved, (ENTITIES,)).fingerprint != one.fingerprint


def test_spans_of_one_text_of_several_and_sentences_beside_them(tmp_path):
    records = [{"question": f"Where in {i}?", "text": r["text"], "entities": r["entities"]} for i, r in enumerate(RECORDS)]  # fmt: skip
    made = run(tmp_path, records, (ENTITIES,), text_fields=("question", "text"))
    read = opened(made)
    for k in range(len(read)):
        question = int(read.sentence_lengths(k)[0])
        assert not read.value("entities", k)[:question].any()
        assert {label for label, _ in parts(made, "train", "entities", k)} == {"LOC", "PER"}
    made = run(tmp_path, RECORDS, (ENTITIES,), sentences=True)
    assert opened(made).sentence_lengths(0).sum() == opened(made).lengths[0]


def test_tags_of_words_are_spans_and_a_word_of_several_tokens_begins_once(tmp_path):
    tagged = [{"words": ["Émile", "met", "Ada", "Lovelace", "Grace", f"in {i}"], "tags": ["I-PER", "O", "B-PER", "I-PER", "B-PER", "O"],
               "pos": ["PROPN", "VERB", "PROPN", "PROPN", "PROPN", 7]} for i in range(60)]  # fmt: skip
    columns = (
        Tags(field="tags", text="words", between=" ", scheme="bio"),
        Tags(field="pos", text="words", between=" ", scheme="words"),
    )
    made = run(tmp_path, tagged, columns, text_field="words")
    people = [("PER", "emile"), ("PER", "adalovelace"), ("PER", "grace")]
    assert parts(made, "train", "tags", 3) == people
    words = parts(made, "train", "pos", 3)
    assert [label for label, _ in words] == ["PROPN", "VERB", "PROPN", "PROPN", "PROPN", "7"]
    assert words[3] == ("PROPN", "lovelace")


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_words_with_nothing_between_are_tokenised_one_by_one(tmp_path, tokenizer):
    tagged = [{"c": list(f"我在香港A{i}见他"), "t": ["O", "O", "B-LOC", "I-LOC", "I-LOC", *"O" * len(f"{i}见他")]} for i in range(50)]  # fmt: skip
    tagged += [{"c": list(f"在港{i}"), "t": ["O", "B-LOC", *"O" * len(str(i))]} for i in range(50)]  # fmt: skip
    made = run(
        tmp_path, tagged, (Tags(field="t", text="c", between="", scheme="bio"),), tokenizer, text_field="c"
    )
    found = {split: range(len(opened(made, split))) for split in ("train", "validation")}
    seen = {tuple(parts(made, split, "t", k)) for split, ks in found.items() for k in ks}
    assert seen == {(("LOC", "香港a"),), (("LOC", "港"),)}


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_every_turn_is_tokenised_by_itself_and_knows_its_role(tmp_path, tokenizer):
    def messages(i):
        return [("system", "Be brief."), ("user", f" Who was number {i}? "), ("user", "Tell me!\nNow."), ("assistant", "Ada")]  # fmt: skip

    records = [{"messages": [dict(zip(("role", "content"), t, strict=True)) for t in messages(i)]} for i in range(80)]  # fmt: skip
    made = run(tmp_path, records, (Turns(field="messages"),), tokenizer, text_field="messages")
    read = opened(made)
    assert read.labels("messages") == ("assistant", "system", "user")
    for k in range(len(read)):
        i = int(re.search(r"number (\d+)", made.tokenizer.decode(read[k].tolist()))[1])
        ids = [made.tokenizer.encode(content.strip()) for _, content in messages(i)]
        assert read[k].tolist() == [id for one in ids for id in one]
        numbers = [read.labels("messages").index(role) for role, _ in messages(i)]
        roles = [[2 * n + 1] + [2 * n + 2] * (len(one) - 1) for n, one in zip(numbers, ids, strict=True)]
        assert read.value("messages", k).tolist() == [value for one in roles for value in one]


GOOD = {"text": "Ada saw London", "entities": []}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[0, 4, "PER"]], None), ({"start": 0, "end": 3}, None), ([[0, 3, "PER"], [8, 14, 5]], None),
        ([[0, 3]], "allowed are"), ("Ada", "allowed are"), (None, "allowed are"), ([[3, 3, "PER"]], "allowed are"),
        ([[-1, 3, "PER"]], "allowed are"), ([[8, 15, "LOC"]], "0 <= start < end <= 14"), ([[0.0, 3, "PER"]], "allowed"),
        ([[True, 3, "PER"]], "allowed are"), ([[0, 3, " "]], "allowed are"), ([[3, 4, "PER"]], "allowed are"),
        ([{"start": 0, "end": 3, "text": "Eva"}], "'Ada' stands there"),
        ([[0, 7, "PER"], [4, 7, "VERB"]], "which overlap; allowed are spans"),
        ([[0, 2, "PER"]], "not whole tokens"), ([[9, 14, "LOC"]], "those there are of 'London'"),
    ],
)  # fmt: skip
def test_spans_that_are_none_are_refused_with_file_and_line(tmp_path, given, message):
    many = [
        {"text": f"Ada saw London {i}", "entities": [[0, 3, "PER"], [8, 14, "5"], [15, 16, "entities"]]}
        for i in range(40)
    ]
    records = [*many, {**GOOD, "entities": given}]
    if message is None:
        assert run(tmp_path, records, (ENTITIES,)).index["columns"]["entities"]
        return
    with pytest.raises(UserError, match=rf'a\.jsonl:41: field "entities" has the span.*{message}'):
        run(tmp_path, records, (ENTITIES,))


def test_a_label_of_a_span_that_only_a_held_out_document_has_is_refused(tmp_path):
    text = Corpus(source="-", validation_share=0.2, test_share=0.0)
    from jaxlm.data.corpus.record import Record

    line = next(i for i, r in enumerate(RECORDS) if text.split(Record((r["text"].strip(),))) == "validation")
    records = [{**r, "entities": [[5, 9, "PRE"]]} if i == line else r for i, r in enumerate(RECORDS)]
    message = rf'a\.jsonl:{line + 1}: field "entities" is "PRE".*\(LOC, PER\)'
    with pytest.raises(UserError, match=message):
        run(tmp_path, records, (ENTITIES,))


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O I-PER I-PER O", [(2, 5, "PER")]),  # after nothing
        ("B-LOC I-PER I-PER O", [(0, 1, "LOC"), (2, 5, "PER")]),  # after another label
        ("B-PER I-PER B-PER I-PER", [(0, 3, "PER"), (4, 7, "PER")]),
        ("I-PER O I-PER I-LOC", [(0, 1, "PER"), (4, 5, "PER"), (6, 7, "LOC")]),
    ],
)
def test_an_i_that_continues_nothing_begins_a_span_as_conlleval_has_it(tags, found):
    column = Tags(field="tags", text="words", between=" ", scheme="bio")
    assert list(column.read(tags.split(), list("abcd"), "here")) == found


@pytest.mark.parametrize(
    ("tags", "words", "message"),
    [
        (["O"], ["a", "b"], '"tags" is 1 tags, and "words" has 2 words'), ("OO", ["a", "b"], "is 'OO', and"),
        (["O", "PER"], ["a", "b"], """has the tag 'PER'; with scheme="bio" allowed are "O", "B-LABEL" and"""),
        (["O", "B-"], ["a", "b"], "has the tag 'B-'"), (["O", 3], ["a", "b"], "has the tag 3"),
        (["O", "O"], "ab", 'field "words" is \'ab\'; it must be a list of words'), (["O"], [" "], "none of them empty"),
        ([], [], "list of words"),
    ],
)  # fmt: skip
def test_tags_that_do_not_fit_their_words_are_refused(tmp_path, tags, words, message):
    column = Tags(field="tags", text="words", between=" ", scheme="bio")
    with pytest.raises(UserError, match=rf"a\.jsonl:1: .*{re.escape(message)}"):
        run(tmp_path, [{"words": words, "tags": tags}], (column,), text_field="words")


@pytest.mark.parametrize(
    "turns", ["hello", [], [{"role": "user"}], [{"role": "user", "content": " "}], ["hi"], [{"role": "", "content": "a"}]]
)  # fmt: skip
def test_what_is_no_conversation_is_refused(tmp_path, turns):
    with pytest.raises(UserError, match=r'a\.jsonl:1: field "m" has .*\{"role": \.\.\., "content": \.\.\.\}'):
        run(tmp_path, [{"m": turns}], (Turns(field="m"),), text_field="m")


def test_a_step_that_moves_the_text_under_its_spans_is_refused(tmp_path):
    run(tmp_path, RECORDS, (ENTITIES,), steps=(KeepLength(shortest=1, longest=999), Clean()))
    records = [{"text": "Ada  saw", "entities": [[5, 8, "VERB"]]}]
    with pytest.raises(UserError, match=r"a\.jsonl:1: the step Clean changed a text"):
        run(tmp_path, records, (ENTITIES,), steps=(Clean(),))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Spans(field="e", text="body"), r'columns\[0\]: spans of "body", which is no text field. Fix: one of text'),
        (Turns(field="m"), r'columns\[0\]: spans of "m"'),
        (Tags(field="e", text="text", between=" ", scheme="iob"), 'scheme=\'iob\': allowed are "bio" and "words"'),  # pyright: ignore[reportArgumentType]
    ],
)  # fmt: skip
def test_columns_of_no_text_are_refused(tmp_path, column, message):
    with pytest.raises(UserError, match=message):
        run(tmp_path, RECORDS, (column,))


def test_a_token_is_of_the_span_that_its_letters_are_in():
    """Spaces belong to no token: a token may hold the one before the span, and stand between two of its words."""
    offsets = np.array([(0, 2), (2, 3), (3, 5), (5, 5), (5, 8), (8, 9)])
    values = spans.of_tokens(((1, 5, "a"), (6, 8, "b")), " a bc de.", offsets, "here")
    assert values.tolist() == [1, 2, 2, 0, 3, 0]
