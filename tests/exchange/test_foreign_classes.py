"""A folder that is only named runs nothing: its `type` may choose among classes of ours, whatever reads it."""

import json
import pathlib
import sys

import numpy as np
import pytest

from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.commands import convert_checkpoint, embed, fill_mask, generate, inspect
from jaxlm.errors import UserError
from jaxlm.exchange import pairs

EVIL = {"type": "folder.payload.X"}
DOORS = {
    "generate": lambda: generate.main(["", "--run=folder", "--prompt=a"]),
    "fill_mask": lambda: fill_mask.main(["", "--run=folder", "a [MASK]"]),
    "embed": lambda: embed.main(["", "--run=folder", "a"]),
    "init_from": lambda: pairs.open_any("folder", say=print),
    "to_hf": lambda: convert_checkpoint.main(["", "to_hf", "folder", "out"]),
    "check": lambda: convert_checkpoint.main(["", "check", "folder", "folder"]),
}


@pytest.fixture(params=["model.json", "checkpoint"])
def folder(request, tmp_path, monkeypatch) -> pathlib.Path:
    """A folder with a module beside its weights, and a working directory from which Python would find it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    made = tmp_path / "folder"
    checkpoints = Checkpoints(made / "checkpoints", Keep())
    meta = {"config": EVIL, "fingerprints": {"tokenizer": ""}}
    checkpoints.save(1, {"params": {"w": np.ones(3, np.float32)}}, meta, final=True)
    checkpoints.close()
    (made / "payload.py").write_text("open('RAN', 'w')\n")
    if request.param == "model.json":
        (made / "model.json").write_text(json.dumps({"format": 1, "origin": {}, "config": EVIL}))
    return made


@pytest.mark.parametrize("door", DOORS)
def test_no_command_imports_what_a_folder_names(folder, door):
    with pytest.raises(UserError, match="folder.payload.X is not a class of jaxlm.*--recipe=FILE"):
        DOORS[door]()
    assert not pathlib.Path("RAN").exists() and "folder.payload" not in sys.modules


def test_inspecting_a_folder_runs_nothing(folder):
    assert inspect.main(["", "folder", "--meta"]) == 0
    assert not pathlib.Path("RAN").exists()
