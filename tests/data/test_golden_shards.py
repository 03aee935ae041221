"""Folders of shards that earlier versions wrote are read as they were meant: golden files, never written again.

tests/golden/shards_format_1.tar.gz holds three folders and, in NAME.json, what the version that wrote them read back.
"""

import json
import pathlib
import tarfile

import numpy as np
import pytest

from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.shards import prepare, shards
from jaxlm.data.shards.known import DIGESTS, ORIGINS
from jaxlm.data.tokenizer import WordPiece
from jaxlm.errors import UserError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture
def folder(tmp_path):
    with tarfile.open(GOLDEN / "shards_format_1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "sentences", "fields"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_format_1_reads_as_it_did(folder, name, split):
    expected = json.loads((folder / f"{name}.json").read_text())[split]
    train = shards.open_shards(folder / name, split, tokenizer_fingerprint=None, check="sha256")
    assert train.fingerprint == expected["fingerprint"]
    assert [train[k].tolist() for k in range(len(train))] == expected["tokens"]
    if name != "plain":
        assert [train.sentence_lengths(k).tolist() for k in range(len(train))] == expected["lengths"]
    if name == "fields":
        assert train.array("fields").tolist() == expected["lengths"]
    else:
        with pytest.raises(UserError, match=r"no fields.*data\.text_fields"):
            train.array("fields")


def test_damage_to_an_index_of_format_1_is_noticed(folder):
    path = folder / "fields" / "index.json"
    index = json.loads(path.read_text())
    index["splits"]["train"]["documents"] += 1
    path.write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index\.json: damaged: its fingerprints disagree"):
        shards.open_shards(folder / "fields", "train", tokenizer_fingerprint=None)


def test_the_same_records_give_the_same_fingerprint_today(folder):
    """So a run that was started on format 1 goes on when its corpus is prepared again."""
    records = [
        {"a": f"The value {i} is large.", "b": f"Number {i}! It is big. " + "Very. " * (i % 3)}
        for i in range(24)
    ]
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    corpus = Corpus(source=str(path), text_fields=("a", "b"), validation_share=0.25, test_share=0.0)
    config = WordPiece(vocab_size=110, lowercase=True)
    made = prepare.prepare(corpus, config, sentences=False, cache=folder / "cache", log=lambda _: None)
    old, new = json.loads((folder / "fields" / "index.json").read_text()), made.index
    assert new["format"] == 2 and new["fingerprint"] == old["fingerprint"]
    assert list(new["splits"]["train"]["arrays"]) == ["lengths", DIGESTS, ORIGINS, "fields"]
    assert shards.open_shards(folder / "fields", "train", tokenizer_fingerprint=None).known() is None
    opened = [
        shards.open_shards(f, "train", tokenizer_fingerprint=None)
        for f in (folder / "fields", made.directory)
    ]
    assert np.array_equal(*[one.array("fields") for one in opened])
