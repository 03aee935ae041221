"""The notebooks are whole: committed without outputs, using names that exist; executed (`pytest -m slow`), no cell fails."""

import json
import os
import pathlib
import re

import pytest

import jaxlm

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code(path: pathlib.Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_committed_without_outputs_and_names_what_there_is(path):
    sources = ["".join(cell["source"]) for cell in code(path)]
    assert not [cell for cell in code(path) if cell["outputs"] or cell["execution_count"]]
    used = {name for source in sources for name in re.findall(r"\bjaxlm\.(\w+)", source)}
    assert {"load_recipe", "fit", "load"} <= used <= set(jaxlm.__all__)
    assert sum("SOURCE = " in source for source in sources) == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_cell_runs(path, tmp_path, monkeypatch):
    reason = "needs the extra `notebook`: pip install -e '.[notebook]'"
    nbclient, nbformat = (pytest.importorskip(name, reason=reason) for name in ("nbclient", "nbformat"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("XLA_FLAGS")  # one device, as in a fresh runtime
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1000, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = "\n".join(str(output) for output in outputs)
    assert "image/png" in shown and "[MASK]" in shown and "model.safetensors" in shown
    assert (tmp_path / "exported/config.json").exists()
    losses = [float(found) for found in re.findall(r"'eval/loss': (\d+\.\d+)", shown)]
    assert losses[0] < 5.9, "not below what frequencies alone give"
