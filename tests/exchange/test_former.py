"""Folders of the first format, whose heads were fields of the model: opened, the same numbers, the run goes on."""

import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import train
from jaxlm.batch import Batch
from jaxlm.exchange import exporting, model_folder, stored
from jaxlm.models.build import build
from jaxlm.models.paths import nest

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "1"
HEADS = ["tokens", "pooler", "nsp"]


@pytest.fixture
def golden(tmp_path, monkeypatch):
    """A copy to write into, and the working directory: the run names its corpus relatively."""
    shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "golden"


@pytest.mark.parametrize("name", ["run", "model"])
def test_a_folder_of_before_gives_the_logits_it_gave(golden, name):
    found = stored.open_stored(name, say=print)
    recorded = np.load("logits.npz")
    assert list(found.heads) == HEADS
    model = build(found.config, found.heads)
    bound = model.bind(nest({path: jnp.asarray(value) for path, value in found.hosts()}))
    tokens = recorded["tokens_BT"]
    ones = np.ones_like(tokens)
    batch = Batch(
        tokens_BT=tokens,
        segments_BT=ones,
        positions_BT=np.cumsum(ones, axis=1, dtype=np.int32) - 1,
        types_BT=0 * ones,
    )
    x_BTD = bound.encode(batch, None).x_BTD
    np.testing.assert_allclose(
        bound.predict_tokens(x_BTD)[:, :4], recorded[f"{name}:tokens"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        bound.classify_pair(x_BTD[:, :1], "nsp"), recorded[f"{name}:pairs"], rtol=1e-5, atol=1e-6
    )


def test_a_run_of_before_goes_on_to_the_losses_it_had(golden):
    before = _losses()
    assert train.main(["train", "--config=recipe.py", "--workdir=run", "--config.mesh.tensor=2"]) == 0
    after = _losses()
    assert sorted(after) == [1, 2, 3, 4]
    for step in (3, 4):
        assert after[step] == pytest.approx(before[step], rel=1e-5)
    saved = stored.open_stored("run", say=print)
    assert saved.step == 4 and "heads/nsp/w" in saved.shapes and "token_head/w" not in saved.shapes


def test_a_model_folder_of_before_goes_out_with_the_same_weights(golden):
    exporting.to_hf(pathlib.Path("model"), pathlib.Path("out"), say=print)
    assert json.loads(pathlib.Path("out/config.json").read_text())["architectures"] == ["BertForPreTraining"]
    again = model_folder.read(pathlib.Path("model"))
    assert list(again.heads) == HEADS


def _losses() -> dict[int, float]:
    lines = pathlib.Path("run/metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return {line["step"]: line["train/loss"] for line in found if "train/loss" in line}
