"""Claims about jobs in parts: what is there stays, what is missing is made from its own records, a file of all is made
once, whatever was left behind; on a disk and in memory://."""

import json
import os
import secrets
import socket

import pyarrow.parquet
import pytest

from jaxlm.data.corpus import written
from jaxlm.errors import UserError
from jaxlm.infer import parts, places

ABOUT = {"command": "count", "options": {"--by": 2}}
COUNT = 11


@pytest.fixture(params=["disk", "memory"])
def root(request, tmp_path) -> str:
    return str(tmp_path / "out") if request.param == "disk" else f"memory://{secrets.token_hex(8)}/out"


class Made:
    """Computes numbers and remembers of which parts."""

    def __init__(self, fail_at: int = -1):
        self.firsts, self.fail_at = [], fail_at

    def __call__(self, first: int, records: list[int]):
        if first == self.fail_at:
            raise UserError("no")
        self.firsts.append(first)
        return lambda path: path.write_text("".join(f"{one * 2}\n" for one in records))


def job(root, about=ABOUT, share=(1, 1), said=None):
    say = (lambda line: None) if said is None else said.append
    return parts.Job(places.of(f"{root}/x.parts"), about, size=3, ending=".txt", share=share, say=say)


def joined(root) -> str:
    text = places.of(root).read("x.txt")
    assert text is not None
    return text.decode()


def run(one, made, root):
    if one.run(iter(range(COUNT)), COUNT, made):
        one.join(COUNT, places.of(root), "x.txt", parts.concatenated)


WHOLE = "".join(f"{n * 2}\n" for n in range(COUNT))


def test_a_job_that_failed_goes_on_with_what_is_missing(root):
    with pytest.raises(UserError):
        run(job(root), Made(fail_at=6), root)
    made, said = Made(), []
    run(job(root, said=said), made, root)
    assert made.firsts == [6, 9] and said[0] == "resumed: 2 of 4 parts were there"
    assert joined(root) == WHOLE
    assert places.of(f"{root}/x.parts").names() == set()


def test_shares_make_each_part_once_and_the_last_one_joins(root):
    made = [Made() for _ in range(3)]
    for number in (3, 1, 2):
        assert places.of(root).read("x.txt") is None
        run(job(root, share=(number, 3)), made[number - 1], root)
    assert [one.firsts for one in made] == [[0, 9], [3], [6]]
    assert joined(root) == WHOLE
    assert places.of(f"{root}/x.parts").names() == {parts.MANIFEST}
    assert job(root, share=(1, 3)).kept()["joined"] == "x.txt"


def test_a_share_that_finds_the_parts_joined_by_another_is_content(root):
    run(job(root), Made(), root)
    mine = job(root, share=(1, 2))
    done = json.dumps({"job": ABOUT, "records": COUNT, "joined": "x.txt"}).encode()
    mine.place.create(parts.MANIFEST, done)
    mine.join(COUNT, places.of(root), "x.txt", parts.concatenated)
    assert joined(root) == WHOLE


def test_another_job_is_refused_until_the_first_is_joined(root):
    with pytest.raises(UserError):
        run(job(root), Made(fail_at=6), root)
    other = {"command": "count", "options": {"--by": 3, "--more": "a" * 100}}
    with pytest.raises(
        UserError,
        match=r"another job: options\.--by was 2 and is 3; options\.--more was null and is \"a+ \.\.\. a+\"\. Fix: ",
    ):
        job(root, other).kept()
    for number in (1, 2):
        run(job(root, share=(number, 2)), Made(), root)
    assert job(root, other).kept() == {}


def test_two_jobs_that_begin_at_once_do_not_mix(root):
    one, other = job(root), job(root, {"command": "another"})
    assert one.kept() == other.kept() == {}
    with pytest.raises(UserError):
        run(one, Made(fail_at=3), root)
    with pytest.raises(UserError, match=r"command was .count. and is .another."):
        run(other, Made(), root)


def test_parts_that_say_not_whose_they_are_are_refused(root):
    place = places.of(f"{root}/x.parts")
    place.create("part-00000.txt", b"1\n")
    with pytest.raises(UserError, match=r"parts without a manifest\.json.*Fix: "):
        job(root).kept()
    place.create(parts.MANIFEST, b"{")
    with pytest.raises(UserError, match=r"manifest\.json is damaged\. Fix: "):
        job(root).kept()


def test_input_that_shrinks_meanwhile_is_refused(root):
    with pytest.raises(UserError, match="changed while they were read"):
        job(root).run(iter(range(COUNT - 1)), COUNT, Made())


def test_what_a_killed_process_left_is_no_part_and_is_swept(tmp_path):
    root, folder = str(tmp_path / "out"), tmp_path / "out" / "x.parts"
    folder.mkdir(parents=True)
    dead = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(dead, 0)
    start = f".part-00000.txt.{socket.gethostname()}"
    for process in (dead, os.getpid(), os.getppid()):
        (folder / f"{start}.{process}.txt").write_text("half")
    with pytest.raises(UserError):
        run(job(root), Made(fail_at=3), root)
    assert {path.name for path in folder.iterdir()} == {
        parts.MANIFEST,
        "part-00000.txt",
        f"{start}.{os.getppid()}.txt",
    }
    run(job(root), Made(), root)
    assert joined(root) == WHOLE and not folder.exists()


def test_tables_of_parts_become_one_whose_types_fit_all(tmp_path):
    rows = [[{"a": 1, "b": None}], [{"a": 1.5, "b": "x"}], [{"a": 2, "b": "y"}]]
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path, some in zip(paths, rows, strict=True):
        with written.table(path) as write:
            write(some)
    written.joined(lambda: iter(paths), tmp_path / "all.parquet")
    found = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    assert found.to_pylist() == [row for some in rows for row in some]
    assert list(map(str, found.schema.types)) == ["double", "string"]
    with written.table(paths[2]) as write:
        write([{"a": "no number", "b": "z"}])
    with pytest.raises(UserError, match=r"columns of different types.*Fix: write \.jsonl"):
        written.joined(lambda: iter(paths), tmp_path / "all.parquet")
