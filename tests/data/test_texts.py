import json

import cloudpickle
import numpy as np
import pytest

from jaxlm.batch import Vocabulary
from jaxlm.cached import Cache
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.rows import texts
from jaxlm.data.shards import prepare, shards
from jaxlm.data.tokenizer import WordPiece
from jaxlm.errors import UserError

NO = np.zeros(50, bool)
VOCABULARY = Vocabulary(size=50, pad=0, unk=1, cls=2, sep=3, mask=4, special_V=NO, continues_V=NO)


class Shards:
    """Token (document, place) is document * 1000 + place."""

    fingerprint = "s"

    def __init__(self, sentences):
        self.sentences = [np.asarray(s, np.int32) for s in sentences]
        self.lengths = np.array([s.sum() for s in self.sentences], np.uint32)

    def __len__(self):
        return len(self.sentences)

    def __getitems__(self, ks):
        return [np.arange(self.lengths[k], dtype=np.int32) + 1000 * k for k in ks]

    def sentence_lengths(self, k):
        return self.sentences[k]

    def array(self, name):
        assert name == "fields"
        return np.array(self.sentences, np.uint32)


def make(sentences, unit="documents", number=1, max_tokens=7, cache=None):
    return texts.make_texts(
        Shards(sentences), VOCABULARY, unit=unit, texts=number, max_tokens=max_tokens, cache=cache
    )


def pieces(items):
    return items.pieces([(k, 0, int(n)) for k, n in enumerate(items.lengths)])


def test_a_document_is_cut_to_the_longest_text():
    items = make([[5], [4, 9], [0], [2]])
    assert items.lengths.tolist() == [5, 7, 2] and items.overhead == 2
    assert pieces(items)[1].tokens.tolist() == [2, *range(1000, 1007), 3]
    assert not any(p.texts.any() for p in pieces(items))


def test_how_many_texts_are_cut_is_said_once(tmp_path):
    said = []
    for _ in range(2):
        make([[5], [4, 9], [8], [2]], cache=Cache(tmp_path, said.append))
    assert said == ["  texts              4 items; the end of 2 is cut off (max_tokens=7)"]
    make([[5], [2]], cache=Cache(tmp_path / "whole", said.append))
    assert len(said) == 1, "nothing is cut there"


def test_every_sentence_is_a_text():
    items = make([[5, 3], [0, 9], [2, 0, 1]], unit="sentences")
    assert items.lengths.tolist() == [5, 3, 7, 2, 1]
    assert pieces(items)[1].tokens.tolist() == [2, 5, 6, 7, 3]
    assert pieces(items)[4].tokens.tolist() == [2, 2002, 3]


def test_the_fields_of_a_record_are_texts_of_one_item():
    items = make([[5, 9, 1], [2, 3, 4]], unit="fields", number=3)
    assert items.lengths.tolist() == [13, 9] and items.overhead == 6
    first, second = pieces(items)
    assert second.tokens.tolist() == [2, 1000, 1001, 3, 2, 1002, 1003, 1004, 3, 2, 1005, 1006, 1007, 1008, 3]
    assert second.texts.tolist() == [0] * 4 + [1] * 5 + [2] * 6
    assert first.tokens[8:15].tolist() == list(range(5, 12)), "the second text is cut to 7 tokens"


def test_records_with_another_number_of_fields_are_refused():
    with pytest.raises(UserError, match=r"records of 2 texts .* needs 3 .*--config.data.text_fields"):
        make([[5, 9], [2, 3]], unit="fields", number=3)
    with pytest.raises(UserError, match="there are no texts"):
        make([[0], []])


def test_a_cached_table_equals_the_one_in_memory_and_travels_as_a_path(tmp_path):
    sentences = np.random.default_rng(0).integers(1, 12, (300, 3)).tolist()
    cached, memory = make(sentences, "sentences", cache=Cache(tmp_path)), make(sentences, "sentences")
    assert isinstance(cached.table, np.memmap) and np.array_equal(cached.table, memory.table)
    assert cached.fingerprint == memory.fingerprint != make(sentences, "sentences", max_tokens=6).fingerprint
    cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    again = cloudpickle.loads(cloudpickle.dumps(cached))
    assert [p.tokens.tolist() for p in pieces(again)[:9]] == [p.tokens.tolist() for p in pieces(memory)[:9]]


RECORDS = [
    {"a": f"The value {i} is large.", "b": f"Number {i}! It is big. Very.", "c": f"not {i}", "n": i}
    for i in range(60)
]


def prepared(path, tmp_path, fields, **settings):
    corpus = Corpus(source=str(path), text_fields=fields, validation_share=0.2, test_share=0.0, **settings)
    tokenizer = WordPiece(vocab_size=120, lowercase=True)
    return prepare.prepare(
        corpus, tokenizer, sentences=False, cache=tmp_path / "cache", log=lambda _: None, processes=1
    )


def opened(made, split="train"):
    return shards.open_shards(made.directory, split, tokenizer_fingerprint=made.tokenizer.fingerprint)


def test_the_fields_of_a_jsonl_corpus_become_the_sentences_of_documents(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    made = prepared(path, tmp_path, ("a", "b", "c"))
    split = opened(made)
    assert len(split) + len(opened(made, "validation")) == len(RECORDS)
    alone = {tuple(made.tokenizer.encode(r["a"])): r for r in RECORDS}
    for k in range(len(split)):
        lengths = split.sentence_lengths(k)
        parts = np.split(split[k], np.cumsum(lengths)[:-1])
        record = alone[tuple(parts[0].tolist())]
        assert [part.tolist() for part in parts] == [made.tokenizer.encode(record[name]) for name in "abc"]
    two = prepared(path, tmp_path, ("a", "c"))
    assert two.directory != made.directory and all(
        len(opened(two).sentence_lengths(k)) == 2 for k in range(9)
    )


def test_a_record_with_a_text_of_no_tokens_is_left_out(tmp_path):
    path = tmp_path / "pairs.jsonl"
    silent = [{"a": "The value 3", "b": "\u200b"}, {"a": "\x01", "b": "is large."}]
    path.write_text("".join(json.dumps(record) + "\n" for record in [*RECORDS, *silent]))
    made = prepared(path, tmp_path, ("a", "b"))
    assert sum(entry["documents"] for entry in made.index["splits"].values()) == len(RECORDS)
    assert opened(made).array("fields").min() > 0


def test_an_empty_or_missing_field_is_named_with_its_line(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"a": "x", "b": "y"}\n{"a": "x", "b": " "}\n')
    with pytest.raises(UserError, match=r'pairs.jsonl:2: field "b" is empty'):
        prepared(path, tmp_path, ("a", "b"))
    with pytest.raises(UserError, match=r'pairs.jsonl:1: no field "positive"'):
        prepared(path, tmp_path, ("a", "positive"))
    with pytest.raises(UserError, match="--text-field=NAME instead"):
        prepared(path, tmp_path, ("a",))
    plain = tmp_path / "plain.txt"
    plain.write_text("one\n\ntwo\n")
    with pytest.raises(UserError, match="a text file has no fields"):
        prepared(plain, tmp_path, ("a", "b"))
