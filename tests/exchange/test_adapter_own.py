"""Claim: what PEFT has no method for is written and read as an adapter that answers as its run, on its base alone."""

import json

import numpy as np
import pytest

import jaxlm
from jaxlm.commands import export
from jaxlm.config import Stage
from jaxlm.errors import UserError
from jaxlm.exchange import stored
from jaxlm.formats import safetensors_file
from jaxlm.views import houlsby
from tests.views.test_run import model_folder

TEXT = "returns the [MASK] of [MASK]"


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    """(run, its adapter's folder, its base)."""
    root = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXLM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        run = jaxlm.load_recipe("tests/recipes/tiny.py")
        run.data.corpus, run.steps, run.stages = corpus, 4, (Stage(length=32, share=1.0),)
        run.init_from, run.view = str(model_folder(root / "base", seed=5)), (houlsby(width=4),)
        place = jaxlm.fit(run, workdir=root / "run").workdir
    assert export.main(["export", str(place), str(root / "adapter"), "--adapter"]) == 0
    return place, root / "adapter", root / "base" / "model"


def test_the_folder_has_what_was_trained_under_full_paths_and_answers_as_the_run(made):
    place, adapter, base = made
    tensors = safetensors_file.load(adapter / "adapter_model.safetensors")
    assert "blocks/mlp/w_out/adapter_up" in tensors or any("blocks/mlp/w_out/" in name for name in tensors)
    said = json.loads((adapter / "adapter_config.json").read_text())
    assert said["peft_type"] == "JAXLM" and said["base_model_name_or_path"] == str(base)
    size = sum(array.size for array in tensors.values())
    assert size < 0.5 * sum(
        np.prod(s.shape) for s in stored.open_stored(str(base), say=print).shapes.values()
    )
    ours, theirs = (jaxlm.load(one).fill_mask(TEXT) for one in (f"hf:{adapter}", place))
    assert ours == theirs
    moved = base.rename(base.parent / "moved")
    try:
        with pytest.raises(UserError, match="was trained on top of .*, which cannot be read.*--base=DIR"):
            jaxlm.load(f"hf:{adapter}")
        assert jaxlm.load(f"hf:{adapter}", base=str(moved)).fill_mask(TEXT) == ours
    finally:
        moved.rename(base)


def test_another_base_and_a_damaged_folder_are_refused(made, tmp_path):
    _, adapter, _ = made
    other = model_folder(tmp_path, seed=6)
    with pytest.raises(UserError, match="is another base .fingerprint"):
        jaxlm.load(f"hf:{adapter}", base=str(other))
    config = adapter / "adapter_config.json"
    whole = config.read_text()
    try:
        config.write_text(json.dumps(json.loads(whole) | {"base": None}))
        with pytest.raises(UserError, match="does not say which base it was trained on"):
            jaxlm.load(f"hf:{adapter}")
    finally:
        config.write_text(whole)


def test_a_run_without_a_view_has_no_adapter(tmp_path):
    folder = model_folder(tmp_path, seed=1)
    with pytest.raises(UserError, match="has no view: everything of it was trained, and there is no adapter"):
        export.main(["export", str(folder), str(tmp_path / "adapter"), "--adapter"])
