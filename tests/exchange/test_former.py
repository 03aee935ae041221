"""Folders of before are opened, give the same numbers, and their runs go on.

golden/1 is a BERT of the first format, whose heads were fields of the model; golden/2 has other families, made when
objectives had come to name the heads.
"""

import dataclasses
import json
import pathlib
import shutil
import tarfile

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import train
from jaxlm.batch import Batch
from jaxlm.config import flags, tree
from jaxlm.errors import UserError
from jaxlm.evaluate import of_run
from jaxlm.exchange import exporting, model_folder, stored
from jaxlm.models.build import build
from jaxlm.models.paths import nest
from jaxlm.run import seen
from jaxlm.run.attested import Stretch

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
HEADS = ["tokens", "pooler", "nsp"]
# Where a recipe ran, and where under it the folders are.
PLACES = {"recipe": ("1", "."), "gpt2": ("2", "gpt2"), "t5": ("2", "t5")}


@pytest.fixture
def golden(tmp_path, monkeypatch, request):
    """(recipe, folder with `run` and `model`): a copy to write into; the run names its corpus relatively."""
    number, folder = PLACES[request.param]
    shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden" / number)
    if (packed := pathlib.Path(f"{folder}.tar.gz")).exists():
        with tarfile.open(packed) as archive:
            archive.extractall(filter="data")
    monkeypatch.setenv("JAXLM_CACHE", str(tmp_path / "cache"))
    return request.param, pathlib.Path(folder)


every = pytest.mark.parametrize("golden", PLACES, indirect=True)
bert = pytest.mark.parametrize("golden", ["recipe"], indirect=True)


def batch(recorded) -> Batch:
    """One text a row, of the ids that were recorded."""
    ones = np.ones_like(recorded["tokens_BT"])
    places = lambda like: np.cumsum(np.ones_like(like), axis=1, dtype=np.int32) - 1
    made = Batch(
        tokens_BT=recorded["tokens_BT"], segments_BT=ones, positions_BT=places(ones), types_BT=0 * ones
    )
    if "source_tokens_BS" not in recorded:
        return made
    source = recorded["source_tokens_BS"]
    return dataclasses.replace(
        made,
        source_tokens_BS=source,
        source_segments_BS=np.ones_like(source),
        source_positions_BS=places(source),
    )


@every
@pytest.mark.parametrize("name", ["run", "model"])
def test_a_folder_of_before_gives_the_logits_it_gave(golden, name):
    recipe, folder = golden
    found, recorded = stored.open_stored(str(folder / name), say=print), np.load(folder / "logits.npz")
    assert list(found.heads) == (HEADS if recipe == "recipe" else [])
    model = build(found.config, found.heads)
    bound = model.bind(nest({path: jnp.asarray(value) for path, value in found.hosts()}))
    x_BTD, expected = bound.encode(batch(recorded), None).x_BTD, recorded[f"{name}:tokens"]
    logits = bound.predict_tokens(x_BTD)[:, :4, : expected.shape[-1]]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    if "nsp" in found.heads:
        np.testing.assert_allclose(
            bound.classify_pair(x_BTD[:, :1], "nsp"), recorded[f"{name}:pairs"], rtol=1e-5, atol=1e-6
        )


@every
def test_a_run_of_before_goes_on_to_the_losses_it_had_and_is_measured_as_it_measured_itself(golden):
    recipe, folder = golden
    run, before = folder / "run", _losses(folder)[0]
    options = [f"--config={recipe}.py", f"--workdir={run}", "--config.mesh.tensor=2"]
    assert train.main(["train", *options]) == 0
    after, evaluated = _losses(folder)
    assert sorted(after) == [1, 2, 3, 4]
    for step in (3, 4):
        assert after[step] == pytest.approx(before[step], rel=1e-5)
    saved = stored.open_stored(str(run), say=print)
    attested = seen.saved(str(run), None)
    assert (attested.since, attested.read) == (2, (Stretch(0, 0, 2, 4),)), "nothing is said of steps 1 and 2"
    assert saved.step == 4 and not any("_head/" in path for path in saved.shapes)
    assert ("heads/nsp/w" in saved.shapes) == (recipe == "recipe")
    _, measured = of_run.measure(str(run), split="validation", step=4, rows=8, base="", say=print)
    assert evaluated == {name: pytest.approx(value, rel=1e-6) for name, value in measured.items()}


@bert
def test_a_model_folder_of_before_goes_out_with_the_same_weights(golden):
    exporting.to_hf(pathlib.Path("model"), pathlib.Path("out"), say=print)
    assert json.loads(pathlib.Path("out/config.json").read_text())["architectures"] == ["BertForPreTraining"]
    again = model_folder.read(pathlib.Path("model"))
    assert list(again.heads) == HEADS


def test_questions_of_before_said_their_separators_which_the_tokenizer_knows(tmp_path):
    found = flags.load(pathlib.Path(__file__).parents[2] / "configs" / "question_answering.py").objective
    written = tree.to_json(found)
    assert tree.from_json(written | {"separators": 2}, "config.objective") == found
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from jaxlm.objectives.question_answering import QuestionAnswering\n"
        "def get_config():\n    return QuestionAnswering(separators=2)\n"
    )
    with pytest.raises(UserError, match="what stands between two texts. Fix: leave separators out"):
        flags.load(recipe)


def _losses(folder: pathlib.Path) -> tuple[dict[int, float], dict[str, float]]:
    """(step -> loss, the last evaluation) of the run."""
    found = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["train/loss"] for line in found if "train/loss" in line}
    return losses, {name: value for name, value in found[-1].items() if name.startswith("eval/")}
