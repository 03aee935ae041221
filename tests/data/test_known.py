"""Where every document came from, and its digest, in shards of any corpus."""

import dataclasses
import gzip
import hashlib
import json

import numpy as np
import pytest

from jaxlm.data.corpus.corpus import SPLITS, Corpus
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.steps import Step
from jaxlm.data.shards import known, prepare, shards
from jaxlm.data.shards.known import Known
from jaxlm.data.tokenizer import WordPiece

TEXTS = [f"text number {n} is {'very ' * (n % 7)}long" for n in range(40)]


@dataclasses.dataclass(kw_only=True)
class Retold(Step):
    """Makes a record anew, which knows nothing of where it was, and drops some."""

    def apply(self, record):
        return (
            None
            if record.texts[0].endswith(" 13 is very very very very very very long")
            else Record((record.texts[0],))
        )


def jsonl(texts):
    """A line each, with a blank one and one without text in front of every third."""
    lines = [
        ("\n" + json.dumps({"text": ""}) + "\n") * (n % 3 == 0) + json.dumps({"text": t})
        for n, t in enumerate(texts)
    ]
    return "\n".join(lines) + "\n"


def prepared(folder, source, **more):
    corpus = Corpus(source=str(source), validation_share=0.2, test_share=0.1, **more)
    config = WordPiece(vocab_size=120, lowercase=True)
    return prepare.prepare(corpus, config, sentences=False, cache=folder / "cache", log=lambda _: None)


def opened(made):
    for split in SPLITS:
        one = shards.open_shards(made.directory, split, tokenizer_fingerprint=None)
        yield one, one.known()


@pytest.mark.parametrize("steps", [(), (Retold(),)], ids=["as it is", "made anew"])
def test_a_document_knows_its_file_and_line_through_blank_lines_compression_and_steps(tmp_path, steps):
    (tmp_path / "a.jsonl").write_text(jsonl(TEXTS[:25]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(TEXTS[25:]).encode()))
    made, documents = prepared(tmp_path, tmp_path / "*.jsonl*", steps=steps), 0
    for one, about in opened(made):
        assert about.names == (f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl.gz")
        for k in range(len(one)):
            file, _, line = about.where(k).rpartition(":")
            text = (
                (gzip.open if file.endswith(".gz") else open)(file, "rt").read().splitlines()[int(line) - 1]
            )
            assert one[k].tolist() == made.tokenizer.encode(json.loads(text)["text"])
        documents += len(one)
    assert documents == len(TEXTS) - len(steps)


def test_of_plain_text_the_first_line_of_the_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n" + "\n\n\n".join(f"{text}\nand more\r of it" for text in TEXTS))
    lines = path.read_bytes().decode().split("\n")
    made = prepared(tmp_path, path)
    for one, about in opened(made):
        for k in range(len(one)):
            line = about.where(k).rpartition(":")[2]
            assert made.tokenizer.decode(one[k].tolist()).startswith(lines[int(line) - 1])


def test_digests_are_of_the_tokens_and_survive_a_file(tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl(TEXTS))
    train, about = next(opened(prepared(tmp_path, tmp_path / "a.jsonl")))
    expected = [
        int.from_bytes(
            hashlib.blake2b(
                train[k].astype("<i4").tobytes(), digest_size=8, person=b"jaxlm-document"
            ).digest(),
            "little",
        )
        for k in range(len(train))
    ]
    assert (
        about.digests.tolist()
        == expected
        == [known.of_tokens(train[k].astype(np.uint16)) for k in range(len(train))]
    )
    about.write(tmp_path / "known.npz")
    again = Known.read(tmp_path / "known.npz")
    assert again.names == about.names and np.array_equal(again.digests, about.digests)
    assert np.array_equal(again.origins, about.origins)
