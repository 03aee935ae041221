"""No damage to any file is ever loaded: the step is set aside and the next older one is used."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.checkpoint import manifest
from jaxlm.checkpoint.opened import open_run
from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.errors import UserError

LIKE = {"w": jax.ShapeDtypeStruct((31, 17), jnp.float32), "b": jax.ShapeDtypeStruct((5,), jnp.bfloat16)}


def state(step: int) -> dict:
    return {"w": jax.random.normal(jax.random.key(step), (31, 17)), "b": jnp.full((5,), step, jnp.bfloat16)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(folder, Keep(latest=3, best=0))
    for step in (1, 2):
        checkpoints.save(step, state(step), {"step": step})
    checkpoints.close()
    return folder


def files_of(step: pathlib.Path) -> list[str]:
    return sorted(str(p.relative_to(step)) for p in step.rglob("*") if p.is_file())


def damage(path: pathlib.Path, how: str) -> bool:
    """Changes the file; False when it is empty and cannot be changed that way."""
    data = bytearray(path.read_bytes())
    if how in ("delete", "directory", "dangling", "loop"):
        path.unlink()
        if how == "directory":
            path.mkdir()
        elif how != "delete":
            path.symlink_to("nowhere" if how == "dangling" else path.name)
        return True
    if not data:
        return False
    if how == "truncate":
        data = data[: len(data) // 2]
    elif how == "zero":
        data = bytearray(len(data))
    else:
        data[{"flip_first": 0, "flip_middle": len(data) // 2, "flip_last": len(data) - 1}[how]] ^= 4
    path.write_bytes(data)
    return True


HOW = (
    "delete",
    "truncate",
    "zero",
    "flip_first",
    "flip_middle",
    "flip_last",
    "directory",
    "dangling",
    "loop",
)


@pytest.mark.parametrize("how", HOW)
def test_damage_to_any_file_falls_back_to_the_older_step(saved, tmp_path, how):
    names = files_of(saved / "2")
    assert len(names) >= 8 and "manifest.json" in names
    for i, name in enumerate(names):
        folder = tmp_path / str(i)
        shutil.copytree(saved, folder)
        if not damage(folder / "2" / name, how):
            continue
        lines: list[str] = []
        checkpoints = Checkpoints(folder, Keep(latest=3, best=0), say=lines.append)
        assert checkpoints.newest_intact() == 1, (name, how)
        restored, meta = checkpoints.restore(1, LIKE)
        assert meta == {"step": 1}
        np.testing.assert_array_equal(restored["w"], state(1)["w"])
        if name == "manifest.json" and how in ("delete", "dangling", "loop"):
            assert len(lines) == 1 and "step 2 has no manifest.json" in lines[0]
        else:
            assert len(lines) == 1 and "step 2 is damaged" in lines[0] and name in lines[0], lines
            assert (folder / "2.corrupt").is_dir() and checkpoints.steps() == [1]


def test_a_step_under_another_number_is_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "c")
    (tmp_path / "c" / "2").rename(tmp_path / "c" / "3")
    lines: list[str] = []
    assert Checkpoints(tmp_path / "c", Keep(), say=lines.append).newest_intact() == 1
    assert len(lines) == 1 and "that of step 2" in lines[0] and (tmp_path / "c" / "3.corrupt").is_dir()


@pytest.mark.parametrize("what", ["file", "dangling link"])
def test_something_else_in_place_of_the_folder_is_a_message(tmp_path, what):
    folder = tmp_path / "checkpoints"
    folder.write_text("") if what == "file" else folder.symlink_to("nowhere")
    with pytest.raises(UserError, match="cannot hold checkpoints: .*move away"):
        Checkpoints(folder, Keep())


def test_what_stands_in_place_of_a_step_goes_with_the_next_save(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "c")
    (tmp_path / "c" / "3").write_text("a file")
    (tmp_path / "c" / "4").symlink_to("nowhere")
    lines: list[str] = []
    checkpoints = Checkpoints(tmp_path / "c", Keep(latest=3, best=0), say=lines.append)
    checkpoints.save(5, state(5), {}, final=True)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1", "2", "5"]
    assert len(lines) == 2 and all("has no manifest.json" in line for line in lines)


def test_by_size_nothing_is_hashed_when_saved_or_opened(tmp_path):
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder, Keep(latest=3, best=0), check="size")
    for step in (1, 2):
        checkpoints.save(step, state(step), {}, final=True)
    files = json.loads((folder / "2" / "manifest.json").read_text())["files"]
    assert all(entry.keys() == {"bytes"} for entry in files.values())
    name = next(n for n in files_of(folder / "2") if "/d/" in n)
    damage(folder / "2" / name, "flip_middle")
    for check in ("size", "sha256"):
        assert Checkpoints(folder, None, check=check).newest_intact() == 2
    damage(folder / "2" / name, "truncate")
    assert Checkpoints(folder, None, say=lambda _: None).newest_intact() == 1


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_file_is_in_the_share_of_one_process_and_its_own_where_it_wrote_it(count):
    names = [f"state/ocdbt.process_{p}/d/{i}" for p in range(4) for i in range(5)] + [
        "_METADATA",
        "state/d/x",
    ]
    shares = [manifest.HostShare(index, count).of(names) for index in range(count)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert all(f"state/ocdbt.process_1/d/{i}" in shares[1 % count] for i in range(5))


def test_a_damaged_step_asked_for_by_number_is_refused(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "c")
    name = next(n for n in files_of(tmp_path / "c" / "2") if "/d/" in n)
    damage(tmp_path / "c" / "2" / name, "flip_middle")
    with pytest.raises(UserError, match="was changed"):
        Checkpoints(tmp_path / "c", None).restore(2, LIKE)


def test_reading_leaves_a_damaged_step_where_it_is(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "c")
    damage(tmp_path / "c" / "2" / "commit_success.txt", "flip_first")
    before = files_of(tmp_path / "c")
    assert open_run(tmp_path / "c", say=lambda _: None)[1] == 1
    assert files_of(tmp_path / "c") == before


def test_when_every_step_is_damaged_nothing_is_loaded(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "c")
    for step in "12":
        damage(tmp_path / "c" / step / "manifest.json", "truncate")
    lines: list[str] = []
    assert Checkpoints(tmp_path / "c", Keep(), say=lines.append).newest_intact() is None
    assert len(lines) == 2
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1.corrupt", "2.corrupt"]


def test_the_next_save_removes_an_interrupted_one(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "c")
    (tmp_path / "c" / "2" / "manifest.json").unlink()
    (tmp_path / "c" / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path / "c", Keep(latest=3, best=0), say=lambda _: None)
    checkpoints.save(4, state(4), {}, final=True)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["1", "4"]


def test_an_interrupted_step_can_be_saved_again(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "c")
    (tmp_path / "c" / "2" / "manifest.json").unlink()
    checkpoints = Checkpoints(tmp_path / "c", Keep(latest=3, best=0), say=lambda _: None)
    checkpoints.save(2, state(7), {"again": True}, final=True)
    restored, meta = checkpoints.restore(2, LIKE)
    assert meta == {"again": True}
    np.testing.assert_array_equal(restored["w"], state(7)["w"])
