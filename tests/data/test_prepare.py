"""Preparation: cached by content, the same on any number of processes, and after SIGKILL the same as without."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus
from jaxlm.data.corpus.record import Record
from jaxlm.data.shards import parts, prepare, shards
from jaxlm.errors import UserError

ROOT = Path(__file__).parents[2]
CONFIG = tokenizer.WordPiece(vocab_size=401, lowercase=True)


def write_corpus(path, documents=503, seed=1):
    rng = np.random.default_rng(seed)
    words = np.array(
        ["red", "green", "blue", "cyan", "magenta", "yellow", "black", "white", "orange", "violet"]
    )
    with open(path, "w", encoding="utf-8") as stream:
        for n in range(documents):
            text = f"Number {n}. " + ". ".join(
                " ".join(rng.choice(words, 7)) for _ in range(rng.integers(1, 40))
            )
            stream.write(json.dumps({"text": text}) + "\n")
    return path


def settings(path, validation_share=0.1, test_share=0.05, **more):
    return corpus.Corpus(source=str(path), validation_share=validation_share, test_share=test_share, **more)


def run(path, tmp_path, config=CONFIG, sentences=True, said=None, **options):
    text = path if isinstance(path, corpus.Corpus) else settings(path)
    options = {"cache": tmp_path / "cache", "processes": 1, **options}
    log = (lambda line: None) if said is None else said.append
    return prepare.prepare(text, config, sentences=sentences, log=log, **options)


def contents(directory):
    """Name → hash of every file that counts."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(directory).iterdir())
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(prepare, "SMALLEST_PART", 10_000)


def test_second_run_reads_nothing_and_a_change_of_anything_makes_another_folder(tmp_path):
    path = write_corpus(tmp_path / "a.jsonl")
    first = run(path, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in first.directory.rglob("*") if file.name != ".lock"}
    said: list[str] = []
    again = run(path, tmp_path, said=said)
    assert said == [] and again.directory == first.directory and again.index == first.index
    assert {file: file.stat().st_mtime_ns for file in before} == before
    others = [
        run(path, tmp_path, sentences=False),
        run(settings(path, test_share=0.06), tmp_path),
        run(path, tmp_path, config=tokenizer.WordPiece(vocab_size=401, lowercase=False)),
        run(write_corpus(tmp_path / "a.jsonl", seed=2), tmp_path),
    ]
    assert len({first.directory, *(other.directory for other in others)}) == 5
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_complete_cache_asks_for_no_lock(tmp_path):
    path = write_corpus(tmp_path / "a.jsonl")
    first = run(path, tmp_path)
    locks = list((tmp_path / "cache").rglob(".lock"))
    for lock in locks:  # as on a disk that is mounted to be read only
        lock.unlink()
    assert len(locks) == 2 and run(path, tmp_path).fingerprint == first.fingerprint
    assert not list((tmp_path / "cache").rglob(".lock"))


def test_tokens_do_not_depend_on_sentences(tmp_path):
    path = write_corpus(tmp_path / "a.jsonl")
    with_sentences, without = (run(path, tmp_path, sentences=sentences) for sentences in (True, False))
    for split in corpus.SPLITS:
        one, other = (
            shards.open_shards(made.directory, split, tokenizer_fingerprint=made.tokenizer.fingerprint)
            for made in (with_sentences, without)
        )
        assert all(np.array_equal(one[k], other[k]) for k in range(len(one))) and len(one) == len(other)


def test_any_number_of_processes_gives_the_same_bytes(tmp_path, small_parts, monkeypatch):
    path = write_corpus(tmp_path / "a.jsonl", 901)
    alone = run(path, tmp_path, output=tmp_path / "one", processes=1)
    monkeypatch.setattr(prepare, "IN_PROCESS_BYTES", 0)
    together = run(path, tmp_path, output=tmp_path / "three", processes=3)
    assert contents(together.directory) == contents(alone.directory)
    assert len(alone.index["splits"]["train"]["shards"]) > 5


def test_index_counts_are_those_of_the_text(tmp_path):
    path = write_corpus(tmp_path / "a.jsonl")
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    made = run(path, tmp_path)
    for split, entry in made.index["splits"].items():
        mine = [text for text in texts if settings(path).split(Record((text,))) == split]
        ids = [made.tokenizer.encode(text) for text in mine]
        assert entry["documents"] == len(mine) and entry["tokens"] == sum(map(len, ids))
        assert entry["characters"] == sum(map(len, mine)) and entry["unknown_tokens"] == 0
    assert sum(entry["documents"] for entry in made.index["splits"].values()) == len(texts)
    assert made.index["tokenizer"]["config"] == {"type": "WordPiece", "vocab_size": 401, "lowercase": True}


def test_the_tokenizer_sees_the_training_split_only(tmp_path):
    path = tmp_path / "a.jsonl"
    write_corpus(path)
    text = settings(path, validation_share=0.3)
    lines = path.read_text().splitlines()
    marked = [json.loads(line)["text"] + " \u2603" for line in lines]
    number = next(n for n, one in enumerate(marked) if text.split(Record((one,))) != "train")
    lines[number] = json.dumps({"text": marked[number]})
    path.write_text("\n".join(lines))
    assert "\u2603" not in run(text, tmp_path).tokenizer.pieces


KILLED = """
import os, signal, sys
from jaxlm.data import tokenizer
from jaxlm.data.corpus import corpus
from jaxlm.data.shards import assembly, parts, prepare
from pathlib import Path
source, cache, output, where, count = sys.argv[1:]
prepare.SMALLEST_PART = 10_000
left = int(count)
def dies(function):
    def wrapped(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return wrapped
if where == "commit":
    parts.commit = dies(parts.commit)
elif where == "rename":
    assembly._shard = dies(assembly._shard)
prepare.prepare(
    corpus.Corpus(source=source, validation_share=0.1, test_share=0.05),
    tokenizer.WordPiece(vocab_size=401, lowercase=True), sentences=True, cache=cache, output=output, processes=1,
)
"""


@pytest.mark.parametrize(
    ("where", "count"), [("commit", 1), ("commit", 13), ("commit", 14), ("rename", 4), ("commit", 71)]
)
def test_killed_anywhere_and_run_again_gives_the_same_bytes(tmp_path, small_parts, where, count):
    path = write_corpus(tmp_path / "a.jsonl")
    whole = run(path, tmp_path, output=tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "cache"), str(tmp_path / "killed")]
    code = subprocess.run([*command, where, str(count)], cwd=ROOT, capture_output=True).returncode
    assert code == -signal.SIGKILL
    assert not (tmp_path / "killed" / "index.json").exists()
    written: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        write = parts.write
        patch.setattr(parts, "write", lambda job, part: (written.append(part.name), write(job, part))[1])
        again = run(path, tmp_path, output=tmp_path / "killed")
    assert contents(again.directory) == contents(whole.directory)
    total = sum(len(entry["shards"]) for entry in whole.index["splits"].values())
    kept = (
        min(count // 3, total) if where == "commit" else total
    )  # a part commits a shard, its arrays, its record
    assert len(written) == total - kept
    assert not list((tmp_path / "killed").rglob("*.tmp-*"))


def test_killing_the_parent_of_workers_leaves_no_orphan_and_nothing_broken(tmp_path, monkeypatch):
    path = write_corpus(tmp_path / "a.jsonl", 2003)
    (tmp_path / "job.py").write_text(
        "import sys; from jaxlm.data import tokenizer; from jaxlm.data.corpus import corpus; from jaxlm.data.shards import prepare\n"
        "prepare.SMALLEST_PART, prepare.IN_PROCESS_BYTES = 60_000, 0\n"
        "if __name__ == '__main__':\n"
        "    prepare.prepare(corpus.Corpus(source=sys.argv[1], validation_share=0.1, test_share=0.05),\n"
        "        tokenizer.Pretrained(path=sys.argv[2]), sentences=True, cache=sys.argv[3], processes=2)\n"
    )
    made = run(write_corpus(tmp_path / "b.jsonl"), tmp_path)
    command = [
        sys.executable,
        str(tmp_path / "job.py"),
        str(path),
        str(made.directory),
        str(tmp_path / "cache"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    folder = wait_for(
        lambda: next((one for one in made.directory.parent.iterdir() if one != made.directory), None)
    )
    wait_for(lambda: list((folder / "parts").glob("train-0000*.json")))
    workers = [
        int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]
    process.kill()
    process.wait()
    wait_for(lambda: not any(alive(worker) for worker in workers))
    done = len(list((folder / "parts").glob("*.json")))
    monkeypatch.setattr(prepare, "SMALLEST_PART", 60_000)
    whole = run(
        path, tmp_path, config=tokenizer.Pretrained(path=str(made.directory)), output=tmp_path / "whole"
    )
    again = run(path, tmp_path, config=tokenizer.Pretrained(path=str(made.directory)))
    assert done >= 1 and again.directory == folder
    assert contents(folder) == contents(whole.directory)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def test_two_at_once_make_one_result(tmp_path):
    path = write_corpus(tmp_path / "a.jsonl", 2003)
    code = (
        "import sys; from jaxlm.data import tokenizer; from jaxlm.data.corpus import corpus; from jaxlm.data.shards import prepare\n"
        "print(prepare.prepare(corpus.Corpus(source=sys.argv[1], validation_share=0.1, test_share=0.05),\n"
        "    tokenizer.WordPiece(vocab_size=401, lowercase=True), sentences=True, cache=sys.argv[2]).fingerprint)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "cache")]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    fingerprints = {process.communicate()[0].split()[-1] for process in both}
    assert [process.returncode for process in both] == [0, 0] and len(fingerprints) == 1
    assert fingerprints == {run(path, tmp_path).fingerprint}


def test_empty_corpora_and_empty_splits_are_errors_that_say_what_to_change(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    pretrained = tokenizer.Pretrained(path=str(run(write_corpus(tmp_path / "b.jsonl"), tmp_path).directory))
    for config in (CONFIG, pretrained):
        with pytest.raises(UserError, match="holds no documents"):
            run(tmp_path / "empty.jsonl", tmp_path, config=config)
    (tmp_path / "one.txt").write_text("just one document")
    with pytest.raises(
        UserError,
        match="--config.data.validation_share=0 (and --config.data.test_share=0 )?for no such split",
    ):
        run(settings(tmp_path / "one.txt", validation_share=0.98, test_share=0), tmp_path, config=pretrained)
    run(settings(tmp_path / "one.txt", validation_share=0, test_share=0), tmp_path, config=pretrained)


def test_a_share_that_leaves_a_split_empty_is_answered_with_one_that_is_larger(tmp_path):
    pretrained = tokenizer.Pretrained(path=str(run(write_corpus(tmp_path / "b.jsonl"), tmp_path).directory))
    few = settings(write_corpus(tmp_path / "few.jsonl", 5), validation_share=0.001, test_share=0)
    empty = r"validation_share=0\.001 of 5 documents left the validation split empty .*Fix: --config\.data\.validation_share=0\.5 or more"
    with pytest.raises(UserError, match=empty):
        run(few, tmp_path, config=pretrained)
    (tmp_path / "copies.txt").write_text("\n\n".join(["the same words"] * 200))
    copies = settings(tmp_path / "copies.txt", validation_share=0.1, test_share=0.1)
    with pytest.raises(
        UserError,
        match=r"\(copies stay together\)\. Fix: --config\.data\.validation_share=0 --config\.data\.test_share=0 for",
    ):
        run(copies, tmp_path, config=pretrained)


def test_shares_of_zero_make_no_split(tmp_path):
    made = run(settings(write_corpus(tmp_path / "a.jsonl"), validation_share=0, test_share=0), tmp_path)
    assert list(made.index["splits"]) == ["train"]


def test_an_error_while_reading_leaves_a_preparation_that_continues(tmp_path, small_parts):
    path = write_corpus(tmp_path / "a.jsonl")
    whole = run(path, tmp_path, output=tmp_path / "whole")
    good = path.read_text()
    path.write_text(good + "not json\n")
    with pytest.raises(UserError, match=r"a\.jsonl:504: not valid JSON"):
        run(path, tmp_path, output=tmp_path / "out", config=tokenizer.Pretrained(path=str(whole.directory)))
    path.write_text(good)
    with pytest.raises(UserError, match="unfinished preparation of another corpus"):
        run(path, tmp_path, output=tmp_path / "out")
    with pytest.raises(UserError, match="already holds shards of another"):
        run(path, tmp_path, output=tmp_path / "whole", sentences=False)


def test_prepared_folders_are_sources_when_they_are_what_the_run_asks_for(tmp_path):
    made = run(write_corpus(tmp_path / "a.jsonl"), tmp_path)
    place = str(made.directory)
    (tmp_path / "a.jsonl").unlink()
    for config in (CONFIG, tokenizer.Pretrained(path=place)):
        again = run(settings(place), tmp_path, config=config)
        assert again.index == made.index and again.tokenizer.fingerprint == made.tokenizer.fingerprint
    other = tokenizer.WordPiece(vocab_size=402, lowercase=True)
    for text, config, message in (
        (settings(place), other, rf"made with tokenizer.*401.*Pretrained\(path='{place}'\)"),
        (settings(place, test_share=0.2), CONFIG, r"prepared with test_share=0\.05"),
    ):
        with pytest.raises(UserError, match=message):
            run(text, tmp_path, config=config)


def test_documents_without_tokens_are_left_out(tmp_path):
    path = write_corpus(tmp_path / "a.jsonl")
    with open(path, "a") as stream:
        stream.write('{"text": "\\u0000\\u0007"}\n{"text": "  "}\n')
    made = run(settings(path, validation_share=0, test_share=0), tmp_path)
    assert made.index["splits"]["train"]["documents"] == 503


def test_large_vocabularies_are_stored_wider(tmp_path):
    from jaxlm.data.tokens import wordpiece

    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *(f"w{n}" for n in range(70_000)),
        "red",
        "green",
        "blue",
    ]
    wordpiece.make(pieces, True, "big").save(tmp_path)
    (tmp_path / "a.txt").write_text("\n\n".join(f"red green blue w{n}" for n in range(65_530, 65_560)))
    text = settings(tmp_path / "a.txt", validation_share=0, test_share=0)
    made = run(text, tmp_path, config=tokenizer.Pretrained(path=str(tmp_path / "tokenizer.json")))
    opened = shards.open_shards(made.directory, "train", tokenizer_fingerprint=None)
    assert made.index["dtype"] == "uint32"
    assert opened[3].tolist() == [70_005, 70_006, 70_007, 65_530 + 3 + 5]


def test_progress_is_reported_and_ends_with_the_totals(tmp_path, small_parts, monkeypatch):
    monkeypatch.setattr(prepare.progress, "EVERY_S", 0.0)
    said: list[str] = []
    run(write_corpus(tmp_path / "a.jsonl"), tmp_path, said=said)
    assert said[0].startswith("training the tokenizer") and "of vocab_size=401 tokens" in said[1]
    assert said[2].startswith("preparing ") and any(" %, " in line and "MB/s" in line for line in said[3:-1])
    assert said[-1].startswith("prepared: 503 documents")


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="JAXLM_CACHE"):
        run(write_corpus(tmp_path / "a.jsonl"), tmp_path, cache=tmp_path / "file" / "cache")


def test_default_cache_follows_the_variable(monkeypatch):
    monkeypatch.setenv("JAXLM_CACHE", "/somewhere/else")
    assert prepare.default_cache() == Path("/somewhere/else")
    monkeypatch.delenv("JAXLM_CACHE")
    assert prepare.default_cache() == Path("~/.cache/jaxlm").expanduser()


def test_workers_do_without_jax():
    code = (
        "import sys, jaxlm.data.shards.prepare, jaxlm.data.tokens.wordpiece; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_command_line_prepares_reports_and_explains(tmp_path):
    write_corpus(tmp_path / "a.jsonl")
    tool = [
        sys.executable,
        "tools/prepare_corpus.py",
        f"--source={tmp_path}/a.jsonl",
        f"--output={tmp_path}/out",
    ]
    environment = {**os.environ, "JAXLM_CACHE": str(tmp_path / "cache")}

    def call(*more):
        return subprocess.run([*tool, *more], cwd=ROOT, env=environment, capture_output=True, text=True)

    done = call("--tokenizer=wordpiece:401:lowercase", "--sentences", "--validation_share=0.1")
    assert done.returncode == 0, done.stderr
    for words in (
        "train",
        "validation",
        "unknown",
        "50%:",
        "sentences:",
        f"--config.data.corpus={tmp_path}/out --config.data.validation_share=0.1 --config.data.test_share=0.01",
    ):
        assert words in done.stdout
    wrong = call("--tokenizer=wordpiece:401")
    assert (
        wrong.returncode == 78
        and "wordpiece:SIZE:lowercase" in wrong.stderr
        and "Traceback" not in wrong.stderr
    )
    assert "finished parts are kept" in call("--help").stdout
