"""Claims about --input with --output of predict, embed and generate: parts that are there stay, each record's result is
there once, and the bytes are those of a job that nobody killed."""

import contextlib
import csv
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet
import pytest

from jaxlm.commands import embed, generate, predict
from jaxlm.errors import UserError
from tests.buckets import store
from tests.exchange.folders import hf_folder
from tests.infer.test_answers import written_folder

COMMANDS = {"predict": predict, "embed": embed, "generate": generate}
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "the",
    "dog",
    "ran",
    "to",
    "the",
    "door",
    "of",
    "a",
    "red",
    "garden",
]
DRAWN = ("--max-new-tokens=4", "--temperature=0.9", "--seed=3", "--part-records=3")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return f"hf:{written_folder(tmp_path_factory.mktemp('gpt2') / 'hf', 'GPT-2')}"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return f"hf:{hf_folder(tmp_path_factory.mktemp('encoder'), heads=('pooler',))}"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with store.running() as url:
        yield url


def texts(count: int) -> list[str]:
    drawn = random.Random(count)
    return [" ".join(drawn.choices(WORDS, k=drawn.randint(2, 9))) for _ in range(count)]


def lines_of(tmp_path, count: int, name: str = "in.txt") -> pathlib.Path:
    path = tmp_path / name
    path.write_text("".join(f"{text}\n" for text in texts(count)))
    return path


def ran(command, run, *words):
    assert COMMANDS[command].main([command, f"--run={run}", *map(str, words)]) == 0


def part_names(folder: pathlib.Path) -> set[str]:
    with contextlib.suppress(FileNotFoundError):
        return {path.name for path in folder.iterdir() if path.name.startswith("part-")}
    return set()


def killed(words: list[str], folder: pathlib.Path, *, after: int, delay: float) -> None:
    """A process of its own, killed some time after so many parts are there."""
    with subprocess.Popen([sys.executable, "-m", "jaxlm", *words], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(part_names(folder)) < after:
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed: more records"


def killed_again_and_again(tmp_path, run: str, moments: int, capsys) -> None:
    parts = 30 * moments
    source = lines_of(tmp_path, 3 * parts - 1)
    line = [f"--run={run}", f"--input={source}", "--json", *DRAWN]
    ran("generate", run, *line[1:], f"--output={tmp_path / 'whole.jsonl'}")
    drawn, folder = random.Random(1), tmp_path / "out.jsonl.parts"
    for moment in range(moments):
        after = max(len(part_names(folder)) + 1, parts * moment // (moments + 1))
        delay = drawn.uniform(0, 0.1)
        words = ["generate", *line, f"--output={tmp_path / 'out.jsonl'}"]
        killed(words, folder, after=after, delay=delay)
        assert not (tmp_path / "out.jsonl").exists()
    there = {name: (folder / name).stat().st_mtime_ns for name in part_names(folder)}
    assert 0 < len(there) < parts
    capsys.readouterr()
    ran("generate", run, *line[1:], f"--output={tmp_path / 'out.jsonl'}")
    assert f"resumed: {len(there)} of {parts} parts were there" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    prompts = [json.loads(one)["prompt"] for one in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert prompts == texts(3 * parts - 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.jsonl", "whole.jsonl"]


def test_a_process_that_was_killed_twice_goes_on_to_the_same_bytes(gpt2, tmp_path, capsys):
    killed_again_and_again(tmp_path, gpt2, 2, capsys)


@pytest.mark.slow
def test_a_process_that_was_killed_at_ten_moments_goes_on_to_the_same_bytes(gpt2, tmp_path, capsys):
    killed_again_and_again(tmp_path, gpt2, 10, capsys)


def test_what_is_drawn_for_a_prompt_does_not_depend_on_the_size_of_parts(gpt2, tmp_path):
    source = lines_of(tmp_path, 7)
    for size in (2, 100):
        words = (f"--part-records={size}", f"--output={tmp_path / str(size)}.txt")
        ran("generate", gpt2, f"--input={source}", *DRAWN, *words)
    ran("generate", gpt2, *DRAWN, f"--output={tmp_path / 'now.txt'}", "--", *texts(7))
    assert (tmp_path / "2.txt").read_text() == (tmp_path / "100.txt").read_text()
    assert (tmp_path / "100.txt").read_bytes() == (tmp_path / "now.txt").read_bytes()


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
def test_a_table_in_parts_is_the_table_in_one(encoder, tmp_path, kind):
    source = tmp_path / f"in{kind}"
    rows = [{"id": f"{n}\n,", "text": text} for n, text in enumerate(texts(7))]
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    elif kind == ".jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        source.write_text("id,text\n" + "".join(f'"{row["id"]}",{row["text"]}\n' for row in rows))
    made = {}
    for size in (3, 100):
        out = tmp_path / f"{size}{kind}"
        ran("predict", encoder, f"--input={source}", f"--output={out}", f"--part-records={size}")
        made[size] = read(out)
    assert [{name: row[name] for name in ("id", "text")} for row in made[3]] == rows
    whole = (tmp_path / f"3{kind}").read_bytes()
    ran("predict", encoder, f"--input={source}", f"--output={tmp_path / f'3{kind}'}", "--part-records=3")
    assert (tmp_path / f"3{kind}").read_bytes() == whole
    vectors = [np.array([numbers(row["vector"]) for row in made[size]]) for size in made]
    np.testing.assert_allclose(*vectors, rtol=1e-4, atol=1e-6)
    assert not (tmp_path / f"3{kind}.parts").exists()


def read(path):
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return list(map(json.loads, path.read_text().splitlines()))
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def numbers(value):
    return json.loads(value) if isinstance(value, str) else value


def test_vectors_in_parts_are_one_array_as_numpy_saves_it(encoder, tmp_path, capsys):
    source = lines_of(tmp_path, 7)
    ran("embed", encoder, f"--input={source}", f"--output={tmp_path / 'out.npy'}", "--part-records=3")
    assert "7 texts, " in capsys.readouterr().out
    ran("embed", encoder, f"--output={tmp_path / 'whole.npy'}", "--", *texts(7))
    found, whole = np.load(tmp_path / "out.npy"), np.load(tmp_path / "whole.npy")
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
    np.save(tmp_path / "again.npy", found)
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()


def test_several_files_are_answered_in_order_into_a_folder(gpt2, tmp_path, capsys):
    for name, count in (("b.txt", 2), ("a.txt", 3)):
        lines_of(tmp_path, count, name)
    words = (f"--input={tmp_path}/*.txt", "--json", *DRAWN, f"--output={tmp_path}/answers/")
    ran("generate", gpt2, *words)
    assert part_names(tmp_path / "answers") == {"part-00000.jsonl", "part-00001.jsonl"}
    found = [
        one for name in sorted(part_names(tmp_path / "answers")) for one in read(tmp_path / "answers" / name)
    ]
    assert [one["prompt"] for one in found] == [*texts(3), *texts(2)]
    capsys.readouterr()
    ran("generate", gpt2, *words)
    assert "resumed: 2 of 2 parts were there" in capsys.readouterr().err


def test_another_job_in_the_same_place_is_refused_by_what_differs(gpt2, tmp_path):
    source = lines_of(tmp_path, 4)
    line = [f"--input={source}", *DRAWN, f"--output={tmp_path}/answers/"]
    ran("generate", gpt2, *line)
    changed = tmp_path / "other"
    written_folder(changed, "GPT-2")
    with (changed / "config.json").open("a") as stream:
        stream.write("\n")
    with pytest.raises(
        UserError, match=r"another job: options\.--seed was 3 and is 4\. Fix: .*another --output"
    ):
        ran("generate", gpt2, *line, "--seed=4")
    with pytest.raises(UserError, match=r"models\.--run was "):
        ran("generate", f"hf:{changed}", *line)
    with pytest.raises(UserError, match=r"--part-records was 3 and is 2"):
        ran("generate", gpt2, *line, "--part-records=2")
    source.write_text(source.read_text().replace("the", "a"))
    with pytest.raises(UserError, match=r"another job: --input was "):
        ran("generate", gpt2, *line)


def test_two_processes_share_the_parts_and_one_of_them_joins(gpt2, tmp_path):
    line = [f"--input={lines_of(tmp_path, 20)}", "--json", *DRAWN]
    ran("generate", gpt2, *line, f"--output={tmp_path / 'whole.jsonl'}")
    words = [sys.executable, "-m", "jaxlm", "generate", f"--run={gpt2}", *line]
    shares = [
        subprocess.Popen([*words, f"--output={tmp_path / 'out.jsonl'}", f"--share={n}/2"]) for n in (1, 2)
    ]
    assert [share.wait() for share in shares] == [0, 0]
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert os.listdir(tmp_path / "out.jsonl.parts") == ["manifest.json"]
    ran("generate", gpt2, *line, f"--output={tmp_path / 'out.jsonl'}", "--share=2/2")
    assert os.listdir(tmp_path / "out.jsonl.parts") == ["manifest.json"]


def test_a_bucket_is_read_and_written_and_resumed(gpt2, tmp_path, bucket, capsys):
    source = lines_of(tmp_path, 8)
    system = store.fsspec.filesystem("s3", skip_instance_cache=True)
    system.put_file(str(source), f"{store.NAME}/texts/in.txt")
    line = [f"--input={bucket}/texts/*.txt", "--json", *DRAWN]
    ran("generate", gpt2, *line, f"--output={bucket}/answers/")
    made = store.objects(f"{bucket}/answers")
    names = [f"answers/part-0000{n}.jsonl" for n in range(3)]
    assert sorted(made) == ["answers/manifest.json", *names]
    system.rm_file(f"{store.NAME}/{names[1]}")
    ran("generate", gpt2, *line, f"--output={bucket}/answers/")
    assert "resumed: 2 of 3 parts were there" in capsys.readouterr().err
    assert store.objects(f"{bucket}/answers") == made
    ran("generate", gpt2, *line, f"--output={bucket}/answers.jsonl")
    assert store.objects(f"{bucket}/answers.jsonl") == {
        "answers.jsonl": b"".join(made[name] for name in names)
    }
    assert not store.objects(f"{bucket}/answers.jsonl.parts")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--output=memory://a/b/", "a"],
            "it takes files to answer and a place for the answers: --input=FILES",
        ),
        (["--share=1/2", "a"], "--share: it takes files"),
        (["--share=3/2", "--input=x", "--output=y"], "--share: 3/2: I/N, such as 1/4"),
        (["--part-records=0", "a"], "--part-records: 0: a number from 1"),
        (["--output=/no/where/", "a"], "/no/where/ cannot be written|/no/.where cannot be written"),
        (["--input=/no/*.txt", "--output=x.txt"], r"--input=/no/\*\.txt: cannot be read: no such file"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_fix(gpt2, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        ran("generate", gpt2, *words)
    assert os.listdir(tmp_path) == []


def test_rows_that_cannot_be_answered_leave_nothing_behind(encoder, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a cat"}\n{"text": " "}\n')
    with pytest.raises(UserError, match=r"in\.jsonl:2"):
        ran("predict", encoder, f"--input={tmp_path / 'in.jsonl'}", f"--output={tmp_path / 'out.csv'}")
    assert os.listdir(tmp_path) == ["in.jsonl"]
