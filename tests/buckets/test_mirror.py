"""A folder and a bucket as one run, in fsspec's memory: order of writes, what is transferred, kills between writes."""

import json
import pathlib
import secrets

import pytest

from jaxlm.buckets import owner
from jaxlm.buckets.bucket import Bucket
from jaxlm.buckets.mirror import Mirror
from jaxlm.errors import UserError


class Killed(BaseException):
    """What follows a write that was the last."""


class Watched(Bucket):
    """A bucket that notes what is written and fetched, and dies after so many writes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.done: list[str] = []
        self.left = -1

    def _note(self, what: str) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.done.append(what)

    def write(self, name: str, content: bytes) -> None:
        self._note(f"+{name}")
        super().write(name, content)

    def remove(self, name: str) -> None:
        self._note(f"-{name}")
        super().remove(name)

    def download(self, name: str, to: pathlib.Path) -> None:
        self.done.append(f"<{name}")
        super().download(name, to)


@pytest.fixture
def bucket() -> Watched:
    return Watched(f"memory://{secrets.token_hex(8)}/run")


def mirror(bucket: Bucket, folder: pathlib.Path) -> Mirror:
    return Mirror(bucket, folder / "run", folder / "record.json")


def step(folder: pathlib.Path, number: int, content: str, *, whole: bool = True) -> None:
    where = folder / "run" / "checkpoints" / str(number)
    (where / "state").mkdir(parents=True, exist_ok=True)
    (where / "state" / "a").write_text(content)
    (where / "state" / "b").write_text(content)
    if whole:
        (where / "manifest.json").write_text(json.dumps(content))


def files(folder: pathlib.Path) -> dict[str, str]:
    root = folder / "run"
    return {p.relative_to(root).as_posix(): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


def test_what_is_pushed_is_pulled(bucket, tmp_path):
    step(tmp_path / "a", 3, "three")
    (tmp_path / "a/run/metrics.jsonl").write_text("line\n")
    mirror(bucket, tmp_path / "a").push()
    mirror(bucket, tmp_path / "b").pull()
    assert files(tmp_path / "b") == files(tmp_path / "a")


def test_a_manifest_is_written_last_and_removed_first(bucket, tmp_path):
    one = mirror(bucket, tmp_path)
    step(tmp_path, 3, "three")
    (tmp_path / "run/metrics.jsonl").write_text("line\n")
    one.push()
    assert bucket.done[0] == "+metrics.jsonl" and bucket.done[-1] == "+checkpoints/3/manifest.json"
    bucket.done.clear()
    step(tmp_path, 3, "another")  # as after going back
    one.push()
    assert bucket.done[0] == "-checkpoints/3/manifest.json"
    assert bucket.done[-1] == "+checkpoints/3/manifest.json"
    for path in (tmp_path / "run/checkpoints/3").rglob("*"):
        path.is_file() and path.unlink()
    bucket.done.clear()
    one.push()
    assert bucket.done[0] == "-checkpoints/3/manifest.json" and len(bucket.done) == 3
    assert list(bucket.listed()) == ["metrics.jsonl"]


def test_a_kill_between_any_two_writes_leaves_only_whole_steps(tmp_path):
    for left in range(12):
        bucket, here = Watched(f"memory://{secrets.token_hex(8)}/run"), tmp_path / f"{left}"
        step(here, 1, "one")
        step(here, 2, "two")
        mirror(bucket, here).push()
        step(here, 2, "another")
        step(here, 3, "three")
        (here / "run/checkpoints/1/manifest.json").unlink()
        bucket.left = left
        try:
            mirror(bucket, here).push()
            assert left > 9
        except Killed:
            pass
        there = tmp_path / f"{left}-again"
        bucket.left = -1
        mirror(bucket, there).pull()
        found = files(there)
        for name in [name for name in found if name.endswith("manifest.json")]:
            content = json.loads(found[name])
            for file in ("a", "b"):
                assert found[name.replace("manifest.json", f"state/{file}")] == content, (left, found)


def test_an_unfinished_step_and_passing_files_stay_here(bucket, tmp_path):
    step(tmp_path, 3, "three", whole=False)
    passing = tmp_path / "run/checkpoints/4.orbax-checkpoint-tmp/x"
    passing.parent.mkdir()
    for path in (passing, tmp_path / "run/.lock", tmp_path / "run/metrics.jsonl.partial"):
        path.write_text("")
    mirror(bucket, tmp_path).push()
    assert not bucket.listed()


def test_nothing_is_transferred_twice_and_what_was_damaged_here_is_fetched_again(bucket, tmp_path):
    step(tmp_path, 3, "three")
    mirror(bucket, tmp_path).push()
    bucket.done.clear()
    mirror(bucket, tmp_path).push()
    mirror(bucket, tmp_path).pull()
    assert not bucket.done
    (tmp_path / "run/checkpoints/3/state/a").write_text("thre!")
    mirror(bucket, tmp_path).pull()
    assert bucket.done == ["<checkpoints/3/state/a"]
    assert files(tmp_path)["checkpoints/3/state/a"] == "three"


def test_the_bucket_is_the_truth_at_a_start(bucket, tmp_path):
    step(tmp_path / "a", 3, "three")
    mirror(bucket, tmp_path / "a").push()
    expected = files(tmp_path / "a")
    step(tmp_path / "a", 4, "four")  # saved here, and killed before it was put there
    (tmp_path / "a/run/metrics.jsonl").write_text("line\n")
    mirror(bucket, tmp_path / "a").pull()
    assert files(tmp_path / "a") == expected
    assert not (tmp_path / "a/run/checkpoints/4").exists()


def test_a_copy_to_look_at_has_what_is_wanted_and_keeps_what_was_put_beside_it(bucket, tmp_path):
    step(tmp_path / "a", 3, "three")
    mirror(bucket, tmp_path / "a").push()
    copy = tmp_path / "b"
    mirror(bucket, copy).pull(lambda name: name.endswith("manifest.json"), exactly=False)
    assert list(files(copy)) == ["checkpoints/3/manifest.json"]
    (copy / "run/evaluation").mkdir()
    (copy / "run/evaluation/page.html").write_text("page")
    step(tmp_path / "a", 3, "another")
    mirror(bucket, tmp_path / "a").push()
    mirror(bucket, copy).pull(exactly=False)
    assert files(copy) == {**files(tmp_path / "a"), "evaluation/page.html": "page"}


def test_small_files_go_alone(bucket, tmp_path):
    step(tmp_path, 3, "three")
    (tmp_path / "run/metrics.jsonl").write_text("line\n")
    mirror(bucket, tmp_path).push(small=True)
    assert list(bucket.listed()) == ["metrics.jsonl"]


def test_who_may_not_write_changes_nothing(bucket, tmp_path):
    one = mirror(bucket, tmp_path)
    step(tmp_path, 3, "three")

    def refuse() -> None:
        raise owner.Superseded("another")

    one.guard = refuse
    with pytest.raises(owner.Superseded):
        one.push()
    assert not bucket.listed()


def test_an_object_that_is_no_path_is_refused(bucket, tmp_path):
    bucket._system.store[f"{bucket._root}/../x"] = bucket._system.open(f"{bucket._root}/y", "wb")
    with pytest.raises(UserError, match="no path inside a folder"):
        mirror(bucket, tmp_path).pull()
