"""Shards: random access gives the documents back; every kind of damage is noticed, named and repairable."""

import json
import multiprocessing
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus
from jaxlm.data.corpus.record import Record
from jaxlm.data.shards import prepare, shards
from jaxlm.data.shards.index import sealed
from jaxlm.errors import UserError

CONFIG = tokenizer.WordPiece(vocab_size=307, lowercase=True)


def make(folder, output="shards"):
    rng = np.random.default_rng(11)
    words = np.array(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"])
    texts = []
    for n in range(331):
        picked = rng.choice(words, rng.integers(1, 90))
        texts.append(f"Document {n}. " + " ".join(picked) + ". The end.")
    texts.append("A very long one. " * 40_000)  # sentence counts and record sizes beyond the usual
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    settings = corpus.Corpus(source=str(folder / "a.jsonl"), validation_share=0.1, test_share=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "SMALLEST_PART", 20_000)  # several shards
        return texts, settings, prepare.prepare(
            settings, CONFIG, sentences=True, cache=folder / "cache", output=folder / output, log=lambda line: None
        )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made[2].directory, tmp_path / "shards")
    return tmp_path / "shards"


def opened(directory, split="train", check="auto", fingerprint=None):
    return shards.open_shards(directory, split, tokenizer_fingerprint=fingerprint, check=check)


def expected(made, split):
    texts, settings, prepared = made
    return [prepared.tokenizer.encode(text) for text in texts if settings.split(Record((text,))) == split]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_documents_come_back_in_the_order_of_the_corpus(made, split):
    train = opened(made[2].directory, split, fingerprint=made[2].tokenizer.fingerprint)
    documents = expected(made, split)
    assert len(train) == len(documents) and len(made[2].index["splits"]["train"]["shards"]) > 3
    assert train.lengths.dtype == np.uint32 and isinstance(train.lengths, np.memmap)
    assert train.lengths.tolist() == [len(document) for document in documents]
    for k, document in enumerate(documents):
        assert train[k].dtype == np.int32 and train[k].tolist() == document


def test_many_at_once_equal_one_at_a_time_in_any_order(made):
    train = opened(made[2].directory)
    keys = np.random.default_rng(2).integers(0, len(train), 77)
    assert all(np.array_equal(one, train[k]) for one, k in zip(train.__getitems__(keys), keys, strict=True))
    assert train.__getitems__([]) == []
    for k in (-1, len(train)):
        with pytest.raises(IndexError):
            _ = train[k]


def test_sentences_add_up_and_are_where_the_text_has_them(made):
    train = opened(made[2].directory)
    for k in range(len(train)):
        lengths = train.sentence_lengths(k)
        assert lengths.dtype == np.int32 and lengths.min() > 0 and lengths.sum() == train.lengths[k]
    end = made[2].tokenizer.encode("The end.")
    assert train[0][-train.sentence_lengths(0)[-1] :].tolist() == end


def _first_tokens(train, queue):
    queue.put([int(train[k][2]) for k in (0, 7, len(train) - 1)])


def test_shards_travel_to_spawned_processes_and_work_between_threads(made):
    train = opened(made[2].directory)
    here = [train[k].tolist() for k in range(len(train))]
    assert len(pickle.dumps(train)) < 3000  # no data, no open file
    assert pickle.loads(pickle.dumps(train))[5].tolist() == here[5]
    with ThreadPoolExecutor(5) as pool:
        keys = np.random.default_rng(3).integers(0, len(train), 999).tolist()
        assert list(pool.map(lambda k: train[k].tolist() == here[k], keys)) == [True] * 999
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_first_tokens, args=(train, queue))
    process.start()
    assert queue.get(timeout=60) == [here[k][2] for k in (0, 7, -1)]
    process.join()


def damaged(directory, suffix):
    return max(directory.glob(f"train*{suffix}"), key=lambda path: path.stat().st_size)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


SUFFIXES = [".arrayrecord", ".lengths.npy", ".sentences.npy", ".sentence_offsets.npy"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_damage_is_noticed_named_and_repaired_by_the_same_preparation(made, copy, suffix, how):
    path = damaged(copy, suffix)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        flip(path)
    message = "Put it back" if how == "missing" else "damaged.*Delete"
    with pytest.raises(UserError, match=rf"{path.name}.*{message}"):
        opened(copy)
    if how == "flipped":
        opened(copy, check="size")  # sees sizes only
        path.unlink()
    _, settings, prepared = made
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "SMALLEST_PART", 20_000)
        again = prepare.prepare(
            settings, CONFIG, sentences=True, cache=copy.parent / "cache", output=copy, log=lambda line: None
        )
    assert again.index == prepared.index
    assert [tokens.tolist() for tokens in map(opened(copy).__getitem__, range(9))] == expected(made, "train")[
        :9
    ]


def test_a_flipped_bit_that_nobody_hashed_is_caught_when_read(made, copy):
    path = sorted(copy.glob("train-*.arrayrecord"))[1]
    data = path.read_bytes()
    used = np.flatnonzero(np.frombuffer(data, np.uint8))  # files are padded with zeros
    rng = np.random.default_rng(4)
    right = expected(made, "train")
    noticed = 0
    for place in rng.choice(used, 60):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.integers(8))]) + data[place + 1 :])
        train = opened(copy, check="size")
        try:
            assert [
                tokens.tolist() for tokens in train.__getitems__(range(len(train)))
            ] == right  # never wrong tokens
        except UserError as error:
            assert "damaged" in str(error) and path.name in str(error)
            noticed += 1
    assert noticed > 50


def test_auto_leaves_big_splits_to_the_reader(copy, monkeypatch):
    flip(damaged(copy, ".arrayrecord"))
    monkeypatch.setattr(shards, "HASHED_BYTES", 1000)
    opened(copy)
    with pytest.raises(UserError, match="SHA-256"):
        opened(copy, check="sha256")
    flip(damaged(copy, ".sentences.npy"))  # has no checksum of its own
    with pytest.raises(UserError, match=r"sentences\.npy: damaged: its SHA-256"):
        opened(copy)


def test_another_tokenizer_is_refused(made, copy):
    with pytest.raises(
        UserError, match=r"made with tokenizer [0-9a-f]{12}, but the tokenizer in use is 0123"
    ):
        opened(copy, fingerprint="0123456789abcdef")


def test_index_errors_are_explained(copy):
    with pytest.raises(
        UserError,
        match=r'no split "test"; there is: train, validation\. Fix: prepare it again, with `jaxlm data --test-share=0\.01`',
    ):
        opened(copy, "test")
    index = json.loads((copy / "index.json").read_text())
    for change, message in (
        ({"dtype": "uint32"}, r"index\.json: damaged: its fingerprints disagree"),
        ({"splits": {"train": {}}}, r"index\.json: damaged"),
        ({"seal": "0" * 64}, r"index\.json: damaged"),
        ({"format": 99}, "format 99"),
    ):
        (copy / "index.json").write_text(json.dumps({**index, **change}))
        with pytest.raises(UserError, match=message):
            opened(copy)
    del index["seal"]
    index["splits"]["train"]["arrays"]["lengths"] = {"file": "../x", "bytes": 1, "sha256": ""}
    (copy / "index.json").write_text(json.dumps(sealed(index)))
    with pytest.raises(UserError, match="outside"):
        opened(copy)
    (copy / "index.json").write_text('{"format": 1, "cut')
    with pytest.raises(UserError, match=r"index\.json: damaged"):
        opened(copy)
    (copy / "index.json").unlink()
    with pytest.raises(UserError, match=r"no index\.json.*has not finished"):
        opened(copy)


def test_without_sentences_the_error_names_the_option(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"some words {n}" for n in range(99)))
    settings = corpus.Corpus(source=str(tmp_path / "a.txt"), validation_share=0.0, test_share=0.0)
    made = prepare.prepare(settings, CONFIG, sentences=False, cache=tmp_path / "cache", log=lambda line: None)
    with pytest.raises(UserError, match="--sentences"):
        opened(made.directory).sentence_lengths(0)
