"""Surroundings that a run does not choose: encodings, names of files, folders that cannot be used, another run."""

import os
import pathlib
import subprocess
import sys

import pytest

from jaxlm.config import flags, folder
from jaxlm.errors import UserError
from jaxlm.exchange import model_folder


def test_a_run_in_ascii_surroundings_on_one_document_with_a_name_that_is_not_utf8_loses_no_line(
    train_command, tmp_path
):
    path = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    pathlib.Path(os.fsdecode(path)).write_text("日本 の 猫 は café 庭 で 走 る ü " * 300, encoding="utf-8")
    process = train_command(
        tmp_path / "run",
        f"--config.data.corpus={os.fsdecode(path)}",
        "--config.data.validation_share=0",
        "--config.data.test_share=0",
        "--config.steps=2",
        "--config.show_batch=1",
        "--config.tokenizer.vocab_size=200",
        PYTHONIOENCODING="ascii",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "nothing is held out" in output and r"\udce9.txt" in output
    said = [line[20:] for line in (tmp_path / "run" / "run.log").read_text(encoding="utf-8").splitlines()]
    assert any("猫" in line for line in said)
    shown = output.splitlines()
    assert [line for line in said if line.encode("ascii", "backslashreplace").decode() not in shown] == []


@pytest.mark.parametrize("option", ["--config.fill=('\udce9 [MASK]',)", "--config.generate=('\udce9',)"])
def test_an_argument_that_is_no_text_is_refused_before_training(option):
    recipe = pathlib.Path(__file__).parent / "recipes" / "objectives" / "causal_lm.py"
    with pytest.raises(UserError, match="is not text in this locale.*PYTHONUTF8=1"):
        flags.parse(["train", f"--config={recipe}", option])


def test_a_workdir_in_use_is_refused(train_command, tmp_path):
    with folder.lock(folder.RunFolder(tmp_path), print):
        output, _ = train_command(tmp_path).communicate(timeout=120)
    assert f"{tmp_path} is in use by process {os.getpid()} on " in output and "Traceback" not in output


@pytest.mark.parametrize("name", ["file/run", "dead link", "with a directory for run.log"])
def test_a_workdir_that_cannot_be_used_is_named(train_command, tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "dead link").symlink_to("/nowhere/x")
    (tmp_path / "with a directory for run.log" / "run.log").mkdir(parents=True)
    process = train_command(tmp_path / name)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 78 and "Traceback" not in output and f"{tmp_path / name}" in output, output
    assert "--workdir" in output


def test_a_reader_of_the_doctor_that_knows_ascii_only_is_served(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxlm.doctor"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "JAXLM_NOTE": "日本"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert r"JAXLM_NOTE=\u65e5\u672c" in done.stdout and "Traceback" not in done.stderr


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_under_a_model_folder_is_named_and_nothing_is_left(small_disk):
    with (
        pytest.raises(
            UserError, match=r"cannot be used: No space left.*Nothing was written to .*/model\. Fix"
        ),
        model_folder.new_folder(small_disk / "model") as partial,
    ):
        (partial / "weights").write_bytes(bytes(2**20))
    assert list(small_disk.iterdir()) == []
