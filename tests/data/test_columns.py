"""Labels and numbers of records: the names of the training split, in order; what a value may be; pieces that carry one."""

import json
import pickle

import numpy as np
import pytest

from jaxlm.config import Data, tree
from jaxlm.data.corpus.columns import Label, Number
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.steps import Clean
from jaxlm.data.shards import prepare, shards
from jaxlm.data.tokenizer import WordPiece
from jaxlm.errors import UserError

CONFIG = WordPiece(vocab_size=150, lowercase=True)
GENRES = ["news", "fiction", "letters"]
RECORDS = [
    {
        "text": f"Document {i} says {i * i}.",
        "genre": GENRES[i * 7 % 3],
        "score": i / 8 - 2,
        "good": i % 2 == 0,
    }
    for i in range(90)
]
COLUMNS = (Label(field="genre"), Number(field="score"), Label(field="good"))


def corpus(path, columns=COLUMNS, **settings):
    return Corpus(source=str(path), columns=columns, validation_share=0.2, test_share=0.0, **settings)


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def run(text, tmp_path, **options):
    options = {"cache": tmp_path / "cache", "processes": 1, "log": lambda _: None, **options}
    return prepare.prepare(text, CONFIG, sentences=False, **options)


def opened(made, split="train"):
    return shards.open_shards(made.directory, split, tokenizer_fingerprint=made.tokenizer.fingerprint)


@pytest.mark.parametrize("part", [2**20, 300])
def test_every_document_has_the_values_of_its_record(tmp_path, monkeypatch, part):
    monkeypatch.setattr(prepare, "SMALLEST_PART", part)
    text = corpus(write(tmp_path / "a.jsonl", RECORDS))
    made = run(text, tmp_path)
    assert made.index["columns"] == {"genre": sorted(GENRES), "score": None, "good": ["False", "True"]}
    for split in ("train", "validation"):
        mine = [record for record in RECORDS if text.split(Record((record["text"],))) == split]
        found = pickle.loads(pickle.dumps(opened(made, split)))
        assert len(found) == len(mine) > 9
        assert [found.labels("genre")[n] for n in found.array("genre")] == [
            record["genre"] for record in mine
        ]
        assert found.array("score").dtype == np.float32 and found.array("genre").dtype == np.int32
        assert found.array("score").tolist() == [record["score"] for record in mine]
        assert found.array("good").tolist() == [int(record["good"]) for record in mine]


def test_other_values_are_other_shards_and_the_tokens_stay(tmp_path):
    path = write(tmp_path / "a.jsonl", RECORDS)
    with_them, without = run(corpus(path), tmp_path), run(corpus(path, ()), tmp_path)
    write(path, [{**RECORDS[0], "genre": "fiction"}, *RECORDS[1:]])
    changed = run(corpus(path), tmp_path)
    one, other, third = opened(with_them), opened(without), opened(changed)
    assert all(np.array_equal(one[k], other[k]) for k in range(len(one)))
    assert len({one.fingerprint, other.fingerprint, third.fingerprint}) == 3
    with pytest.raises(UserError, match=r"no genre.*data\.columns"):
        other.array("genre")


def test_a_label_that_only_a_held_out_document_has_is_named_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    text = corpus(path)
    line = next(i for i, r in enumerate(RECORDS) if text.split(Record((r["text"],))) == "validation")
    write(path, [{**r, "genre": "ficton"} if i == line else r for i, r in enumerate(RECORDS)])
    with pytest.raises(UserError, match=rf'a\.jsonl:{line + 1}: field "genre" is "ficton".*mean "fiction"'):
        run(text, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("genre", None, "a label"), ("genre", " ", "a label"), ("genre", 1.5, "a label"), ("genre", [1], "a label"),
     ("score", "high", "a finite number"), ("score", None, "a finite"), ("score", True, "a finite"),
     ("score", 1e39, "a finite"), ("score", float("nan"), "a finite")],
)  # fmt: skip
def test_a_value_of_another_kind_is_named_with_its_line(tmp_path, field, value, message):
    path = write(tmp_path / "a.jsonl", [*RECORDS[:3], {**RECORDS[3], field: value}])
    with pytest.raises(UserError, match=rf'a\.jsonl:4: field "{field}" is .*{message}'):
        run(corpus(path), tmp_path)


def test_columns_of_a_tsv_follow_the_texts(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"text number {i}\t{GENRES[i % 3]}\t{i}.5\n" for i in range(40)))
    train = opened(run(corpus(path, COLUMNS[:2]), tmp_path))
    numbers = [int(score) for score in train.array("score")]
    assert [train.labels("genre")[n] for n in train.array("genre")] == [GENRES[i % 3] for i in numbers]


@pytest.mark.parametrize(
    "columns",
    [(Label(field=""),), (Label(field="text"),), (Label(field="lengths"),), ("genre",), COLUMNS * 2],
)
def test_what_is_no_column_is_refused(tmp_path, columns):
    with pytest.raises(UserError, match=r"corpus\.columns\[\d\]"):
        run(corpus(tmp_path, columns), tmp_path)


def test_a_folder_of_shards_without_the_column_is_refused(tmp_path):
    made = run(corpus(write(tmp_path / "a.jsonl", RECORDS), COLUMNS[:1]), tmp_path, output=tmp_path / "out")
    assert run(corpus(made.directory, COLUMNS[:1]), tmp_path).index == made.index
    with pytest.raises(UserError, match=r"prepared with columns \['genre'\].*asks for columns \['score'\]"):
        run(corpus(made.directory, COLUMNS[1:2]), tmp_path)
    with pytest.raises(UserError, match="has a text and a label"):
        run(corpus("builtin:pydocs"), tmp_path)


def test_a_config_with_columns_and_steps_survives_its_run_folder():
    data = Data(
        corpus="a.jsonl",
        columns=COLUMNS,
        steps=(Clean(),),
        packing="none",
        validation_share=0.1,
        test_share=0.0,
    )
    again = tree.from_json(json.loads(json.dumps(tree.to_json(data))))
    assert again == data and again.corpus_config() == data.corpus_config() and again.steps == (Clean(),)
    data.validate("config.data")
    data.columns = (Label(field="text"),)
    with pytest.raises(UserError, match=r"config\.data\.columns\[0\]"):
        data.validate("config.data")
