"""What is cached is what was written, or it is made anew and said: after damage, kills, and two processes at once."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxlm import cached
from jaxlm.errors import UserError

ROOT = Path(__file__).parents[1]
CONTENT = {"a.npy": bytes(range(256)) * 9, "b.json": b'{"rows": 7}\n'}


def write(folder):
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)


def find(root, said, key="key", name="plans/x-1", make=write):
    return cached.Cache(root, said.append).find(name, key, make)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != cached.MANIFEST}


def check_repaired(root, said):
    """Made anew with one line, then found without a word; nothing else is left."""
    folder = find(root, said)
    assert contents(folder) == CONTENT
    assert len(said) == 1 and str(folder) in said[0] and said[0].endswith("it is made anew"), said
    assert contents(find(root, said)) == CONTENT and len(said) == 1
    assert sorted(os.listdir(root / "plans")) == [".lock", "x-1"]


@pytest.mark.parametrize("name", [*CONTENT, cached.MANIFEST])
def test_every_flipped_bit_is_noticed_and_mended(tmp_path, name):
    path = find(tmp_path, []) / name
    whole = path.read_bytes()
    rng = np.random.default_rng(len(whole))
    for place in rng.choice(len(whole), 9, replace=False).tolist():
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        path.write_bytes(content)
        check_repaired(tmp_path, [])


def _replaced_by_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "missing": Path.unlink,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a folder": _replaced_by_folder,
    "a dead link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["a.npy", cached.MANIFEST])
def test_damaged_files_are_made_anew(tmp_path, name, how):
    DAMAGE[how](find(tmp_path, []) / name)
    check_repaired(tmp_path, [])


def test_what_stands_in_the_place_of_an_entry_is_replaced(tmp_path):
    folder = find(tmp_path, [])
    for instead in (folder.mkdir, folder.touch, lambda: folder.symlink_to("nowhere")):
        shutil.rmtree(folder)
        instead()
        check_repaired(tmp_path, [])


def test_an_entry_of_another_key_or_with_more_files_is_not_taken(tmp_path):
    shutil.copytree(find(tmp_path, [], "other", "plans/y"), tmp_path / "plans" / "x-1")
    shutil.rmtree(tmp_path / "plans" / "y")
    check_repaired(tmp_path, [])
    (tmp_path / "plans" / "x-1" / "more").touch()
    check_repaired(tmp_path, [])


def test_a_complete_cache_is_only_read(tmp_path):
    folder = find(tmp_path, [])
    (folder.parent / ".lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in (folder.parent, folder, *folder.iterdir())}
    find(tmp_path, [], make=None)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, fsync, rename = set(), os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda file: (synced.add(os.fstat(file).st_ino), fsync(file)))

    def renamed(source, target):
        assert {path.stat().st_ino for path in (source, *source.iterdir())} <= synced
        rename(source, target)

    monkeypatch.setattr(os, "rename", renamed)
    folder = find(tmp_path, [])
    assert folder.parent.stat().st_ino in synced


def test_a_failed_write_leaves_nothing_and_names_the_place(tmp_path):
    def full(folder):
        (folder / "a.npy").write_bytes(b"half")
        raise OSError("4194304 requested and 8 written")  # numpy's words for a full disk

    with pytest.raises(UserError, match=r"plans/x-1: cannot be made: 4194304 requested.*JAXLM_CACHE"):
        find(tmp_path, [], make=full)
    assert os.listdir(tmp_path / "plans") == [".lock"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x-1: .*cannot be made: (File exists|Not a directory)"):
        find(tmp_path, [], name="file/x-1")
    (find(tmp_path, []) / "b.json").unlink()
    with pytest.raises(UserError, match=r"its files are not those of its manifest, and it cannot be made"):
        find(tmp_path, [], make=full)


def maker(root, body):
    """A process that makes the entry; its output is what it says."""
    code = (
        "import sys, time; from pathlib import Path; from jaxlm.cached import Cache\n"
        f"def write(folder):\n    print('writes', flush=True)\n    {body}\n    (folder / 'a').write_text('whole')\n"
        "print(Cache(Path(sys.argv[1])).find('plans/x', 'key', write), flush=True)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_of_several_processes_at_once_one_makes_the_entry(tmp_path):
    find(tmp_path, [], "other", "plans/x")  # damaged, as they see it
    processes = [maker(tmp_path, "time.sleep(1.0)") for _ in range(3)]
    lines = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert lines.count("writes") == 1 and lines.count(str(tmp_path / "plans" / "x")) == 3
    assert sum("is made anew" in line for line in lines) == 1
    assert sorted(os.listdir(tmp_path / "plans")) == [".lock", "x"]


@pytest.mark.parametrize("damaged", [False, True])
def test_where_there_are_no_locks_the_first_of_two_stays(tmp_path, monkeypatch, damaged):
    if damaged:
        find(tmp_path, [], "other")

    def no_locks(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first, said = [], []

    def second(folder):
        first.append(find(tmp_path, []).stat().st_ino)
        write(folder)

    folder = find(tmp_path, said, make=second)
    assert contents(folder) == CONTENT and [folder.stat().st_ino] == first
    assert "no locks" in said[0] and sorted(os.listdir(tmp_path / "plans")) == [".lock", "x-1"]


def test_what_killed_processes_left_is_removed(tmp_path):
    process = maker(tmp_path, "(folder / 'half').touch(); print(folder, flush=True); time.sleep(600)")
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(2)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = (tmp_path / "plans").glob(".x-*")
    assert str(left) in lines[1]
    (tmp_path / "plans" / "wordpiece-0.tmp-77").mkdir()
    find(tmp_path, [], name="plans/y")
    assert left.exists()  # young: it may be another host's, where locks are not shared
    old = time.time() - cached.LEFTOVER_SECONDS - 60
    for path in (left, tmp_path / "plans" / "wordpiece-0.tmp-77", tmp_path / "plans" / "y"):
        os.utime(path, (old, old))
    find(tmp_path, [], name="plans/z")
    assert sorted(os.listdir(tmp_path / "plans")) == [".lock", "y", "z"]
