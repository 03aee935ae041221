"""Claims about files of words with tags: what stands in them is read, as in a JSON file of the same, or refused with the line."""

import gzip
import json

import pytest

from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.corpus import Corpus, open_source
from jaxlm.data.corpus.spans import Tags
from jaxlm.errors import UserError

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP B-ORG
rejects VBZ I-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
CONLLU = """# sent_id = 1
# text = Don't go .
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\tMood=Imp\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tgone\tgo\tVERB\tVB\t_\t_\t_\t_\t_
4\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_
"""
NER = Tags(field="tags", text="tokens", between=" ", scheme="bio")


def found(path):
    return [row for _, _, row in readers.rows(str(path), Wanted(("tokens",)), whole=True)]


def test_the_first_column_is_the_word_and_the_last_its_tag(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text(CONLL)
    assert found(path) == [
        {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"tokens": ["Peter", "Blackburn"], "tags": ["B-PER", "I-PER"]},
    ]
    assert [number for _, number, _ in readers.rows(str(path), Wanted(("tokens",)))] == [3, 6]


def test_universal_dependencies_have_their_columns_by_name_and_plain_words_only(tmp_path):
    path = tmp_path / "a.conllu.gz"
    path.write_bytes(gzip.compress(CONLLU.encode()))
    (row,) = found(path)
    assert row["tokens"] == ["Do", "n't", "go", "."] and row["upos"] == ["AUX", "PART", "VERB", "PUNCT"]
    assert row["heads"] == ["3", "3", "0", "3"] and row["deprels"] == ["aux", "advmod", "root", "punct"]


def test_records_are_those_of_the_same_sentences_as_json(tmp_path):
    (tmp_path / "a.conll").write_text(CONLL.replace(" ", "\t") + "\n\n")
    rows = [json.dumps(row) for row in found(tmp_path / "a.conll")]
    (tmp_path / "b.jsonl").write_text("\n".join(rows))
    corpus = lambda name: Corpus(
        source=str(tmp_path / name), text_field="tokens", columns=(NER,), validation_share=0.0, test_share=0.0
    )
    ours, theirs = (list(open_source(corpus(name), tmp_path).records()) for name in ("a.conll", "b.jsonl"))
    assert [(one.texts, one.values) for one in ours] == [(one.texts, one.values) for one in theirs]
    assert ours[1].texts == ("Peter Blackburn",) and ours[1].values == (((0, 15, "PER"),),)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.conll", "EU B-ORG\nrejects\n", r"a\.conll:2: 1 column; every line has 2 columns"),
        ("a.conll", "EU\n", r"a\.conll:1: 1 column; every line has a word, and its tag"),
        ("a.conll", "a b O\nc O\n", r"a\.conll:2: 2 columns; every line has 3 columns"),
        ("a.conllu", "1\tDo\tdo\n", r"a\.conllu:1: 3 columns; every line has ten columns between tabs"),
    ],
)
def test_a_line_of_another_width_is_refused_with_its_number(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        found(tmp_path / name)
