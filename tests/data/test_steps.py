"""Steps change or drop records before they are split, tokenised, and counted in the index."""

import dataclasses
import json
import os

import pytest

from jaxlm.data import workers
from jaxlm.data.corpus.corpus import Corpus
from jaxlm.data.corpus.record import Record
from jaxlm.data.corpus.steps import Clean, KeepLength, Step, Steps
from jaxlm.data.shards import index as indices
from jaxlm.data.shards import prepare, production, shards
from jaxlm.data.tokenizer import WordPiece
from jaxlm.errors import UserError

CONFIG = WordPiece(vocab_size=150, lowercase=True)


@dataclasses.dataclass(kw_only=True)
class Without(Step):
    word: str

    def apply(self, record):
        return dataclasses.replace(record, texts=tuple(text.replace(self.word, "") for text in record.texts))


def run(path, tmp_path, *steps, share=0.25):
    text = Corpus(source=str(path), steps=steps, validation_share=share, test_share=0.0)
    return prepare.prepare(
        text, CONFIG, sentences=False, cache=tmp_path / "cache", log=lambda _: None, processes=1
    )


def read(made):
    found = {}
    for split in ("train", "validation"):
        opened = shards.open_shards(made.directory, split, tokenizer_fingerprint=made.tokenizer.fingerprint)
        found[split] = [made.tokenizer.decode(opened[k].tolist()) for k in range(len(opened))]
    return found


def test_the_shards_are_those_of_the_corpus_that_the_steps_leave(tmp_path):
    texts = [f"number {i}  is\x07 here" + " and on" * (i % 9) + " bad" * (i % 2) for i in range(80)] + ["bad"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made = run(
        tmp_path / "a.jsonl", tmp_path, Without(word="bad"), Clean(), KeepLength(shortest=30, longest=60)
    )
    left = [" ".join(text.replace("\x07", "").replace("bad", "").split()) for text in texts]
    left = [text for text in left if 30 <= len(text) <= 60]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in left))
    by_hand = run(tmp_path / "b.jsonl", tmp_path)
    assert read(made) == read(by_hand), "the same splits, too"
    assert made.fingerprint == by_hand.fingerprint
    first, second, third = made.index["steps"]
    assert first == {"step": "Without", "kept": 40, "changed": 40, "dropped": 1}
    assert second == {"step": "Clean", "kept": 0, "changed": 80, "dropped": 0}
    assert third == {"step": "KeepLength", "kept": len(left), "changed": 0, "dropped": 80 - len(left)}


@dataclasses.dataclass(kw_only=True)
class OnlyInAWorker(Step):
    parent: int

    def apply(self, record):
        assert os.getpid() != self.parent
        return record


def test_workers_run_them_and_make_the_same_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SMALLEST_PART", 3000)
    monkeypatch.setattr(prepare, "IN_PROCESS_BYTES", 0)
    monkeypatch.setattr(production, "CHUNK_CHARACTERS", 500)
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"number {i}  is here" + " and on" * (i % 9) for i in range(900)))
    steps = (Clean(), KeepLength(shortest=30, longest=60), Without(word="9"))
    text = Corpus(source=str(path), steps=steps, validation_share=0.25, test_share=0.0)
    made = [
        prepare.prepare(
            text, CONFIG, sentences=False, cache=tmp_path / str(n), log=lambda _: None, processes=n
        )
        for n in (1, 3)
    ]
    assert made[0].index == made[1].index and len(made[0].index["splits"]["train"]["shards"]) > 3
    for file in indices.files_of(made[0].index["splits"]["train"]):
        assert (made[0].directory / file["file"]).read_bytes() == (
            made[1].directory / file["file"]
        ).read_bytes()
    asked = workers.pool(2)
    with asked:
        done = Steps((OnlyInAWorker(parent=os.getpid()), KeepLength(shortest=0, longest=3)))
        records = [Record((str(i),)) for i in range(2000)]
        assert done.portable and list(production._stepped(iter(records), done, asked, 2)) == records[:1000]
        assert [entry["kept"] for entry in done.report()] == [2000, 1000]


def test_steps_that_a_worker_cannot_import_run_where_they_are():
    made = type("Alone", (Without,), {"__module__": "config_config"})(word="a")
    assert not Steps((made,)).portable and not Steps(()).portable and Steps((Clean(),)).portable


def test_other_steps_are_other_shards_and_the_same_are_found_again(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"some words {i}" for i in range(60)))
    made = [
        run(path, tmp_path, *steps).directory
        for steps in ((), (Clean(),), (Without(word="1"),), (Without(word="2"),))
    ]
    assert len(set(made)) == 4
    assert run(path, tmp_path, Without(word="2")).directory == made[3]


def test_steps_see_every_text_of_a_record_and_an_empty_one_drops_it():
    steps = Steps((Clean(), KeepLength(shortest=3, longest=9)))
    records = [
        Record(("a  b", "c\x00d")),
        Record(("\x00", "b")),
        Record(("a", "123456789")),
        Record(("a\nb", "c")),
    ]
    assert [record.texts for record in steps.run(iter(records))] == [("a b", "cd"), ("a\nb", "c")]
    assert [tuple(entry.values())[1:] for entry in steps.report()] == [(2, 1, 1), (2, 0, 1)]


def test_what_is_no_step_is_refused_and_prepared_shards_must_have_had_the_same(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(f"some words {i}" for i in range(60)))
    with pytest.raises(UserError, match=r"corpus\.steps\[1\]=.*Clean\(\)"):
        run(path, tmp_path, Clean(), str.strip)
    with pytest.raises(UserError, match="shortest=5, longest=3"):
        run(path, tmp_path, KeepLength(shortest=5, longest=3))
    made = run(path, tmp_path, Clean())
    assert run(made.directory, tmp_path, Clean()).index == made.index
    with pytest.raises(UserError, match=r"prepared with .*steps \[\['Clean', 1, \{\}\]\]; the run asks for"):
        run(made.directory, tmp_path)
