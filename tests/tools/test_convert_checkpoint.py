"""Claims about the command: three verbs, documented exit codes, messages without stack traces."""

import pathlib
import pickle
import subprocess
import sys

import pytest

from jaxlm.commands import convert_checkpoint as command
from tests.exchange.folders import hf_folder

ROOT = pathlib.Path(__file__).parents[2]


def run(*words) -> int:
    return command.main(["convert_checkpoint.py", *map(str, words)])


def test_there_and_back_with_a_check_on_both_ways(tmp_path, capsys):
    pytest.importorskip("safetensors")
    source = hf_folder(tmp_path / "hf")
    assert run("from_hf", source, tmp_path / "model", "--check") == 0
    assert "the same model" in capsys.readouterr().out
    assert run("to_hf", tmp_path / "model", tmp_path / "out", "--shard-size=20KB") == 0
    assert (
        "file(s)" in capsys.readouterr().out and (tmp_path / "out" / "model.safetensors.index.json").exists()
    )
    assert run("check", source, tmp_path / "out") == 0


def test_folders_that_differ_end_with_78(tmp_path, capsys):
    a, b = hf_folder(tmp_path / "a"), hf_folder(tmp_path / "b", seed=1)
    assert run("check", a, b) == 78
    assert "NOT the same model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("from_hf", "/no/where", "out"), "error: /no/where: no such folder, and jaxlm downloads nothing."),
        (("to_hf", "/no/where", "out"), "error: /no/where: no complete checkpoint there."),
        (("to_hf", "/no/where", "out", "--shard-size=huge"), "error: --shard-size=huge: a size such as 5GB"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_78(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", *words])
    with pytest.raises(SystemExit) as ended:
        command.run()
    said = capsys.readouterr().err
    assert ended.value.code == 78 and said.strip().splitlines()[-1].startswith(message), said
    assert "Traceback" not in said and not list(tmp_path.iterdir())


def test_the_program_says_it_and_ends_so_too(tmp_path):
    program = [sys.executable, str(ROOT / "tools" / "convert_checkpoint.py"), "from_hf", "/no/where", "out"]
    result = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 78 and result.stderr.startswith("error: /no/where: no such folder"), (
        result.stderr
    )
    assert "Traceback" not in result.stderr and not list(tmp_path.iterdir())


def test_a_pickle_that_calls_something_is_refused_with_the_flag_too(tmp_path):
    class Calls:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'written')!r}, 'w')",)

    source = hf_folder(tmp_path / "hf")
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Calls()}, 2))
    from jaxlm.errors import UserError

    for flag, message in (
        ((), "is a pickle, a format that can run programs"),
        (("--allow-pickle=weights-only",), "exec"),
    ):
        with pytest.raises(UserError, match=message):
            run("from_hf", source, tmp_path / "model", *flag)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]
