"""The command that shows what a checkpoint holds."""

import json
import pathlib

import jax.numpy as jnp
import pytest

from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.commands import inspect as command
from jaxlm.errors import UserError


def inspect(arguments):
    return command.main(["", *arguments])


@pytest.fixture
def run(tmp_path) -> pathlib.Path:
    checkpoints = Checkpoints(tmp_path / "checkpoints", Keep())
    for step in (1, 2):
        params = {"embed": jnp.ones((30, 7)), "norm": jnp.ones(7, jnp.bfloat16)}
        checkpoints.save(step, {"params": params}, {"rows": 64 * step}, {"eval/loss": 1.5 * step})
    checkpoints.close()
    return tmp_path


def test_names_shapes_bytes_and_metrics(run, capsys):
    assert inspect([str(run)]) == 0
    text = capsys.readouterr().out
    assert "step 1  eval/loss 1.5" in text and "step 2:" in text
    assert "params/embed  float32   [30, 7]" in text and "840 bytes" in text
    assert "params: 217 numbers, 854 bytes" in text


def test_metadata_as_json(run, capsys):
    assert inspect([str(run / "checkpoints" / "1"), "--meta"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text[text.index("{") :]) == {"rows": 64}


def _data_size(path: pathlib.Path) -> int:
    return path.stat().st_size if path.is_file() and path.name != "manifest.json" else 0


def test_verify_finds_a_flipped_bit(run, capsys):
    assert inspect([str(run), "--verify"]) == 0
    path = max((run / "checkpoints" / "2").rglob("*"), key=_data_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert inspect([str(run), "--verify"]) == 78
    text = capsys.readouterr().out
    assert path.name in text and "step 1: intact" in text


def test_no_checkpoint_is_one_message(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        inspect([str(tmp_path / "nothing")])
