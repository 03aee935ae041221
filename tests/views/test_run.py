"""A run with a view, as a user starts it: killed and resumed, its base moved or replaced, and used by the commands."""

import json
import pathlib
import re
import signal

import jax
import numpy as np
import pytest

from jaxlm.checkpoint.opened import open_run
from jaxlm.commands import convert_checkpoint, export, fill_mask
from jaxlm.config import flags
from jaxlm.convert import families
from jaxlm.data import tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import bases, importing, stored
from jaxlm.formats import safetensors_file
from jaxlm.models.build import build
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.run.program import Program
from tests.recipes import tiny
from tests.runs import assert_same_run, final_state, finish

RECIPE = "tests/recipes/views/lora.py"
STEPS = 12
FEW = (f"--config.steps={STEPS}", "--config.evaluation.every_steps=6", "--config.checkpoint.every_steps=4")
FEW += ("--config.logging.every_steps=2", "--config.evaluation.rows=8", "--config.stages[1].length=32")


def model_folder(folder: pathlib.Path, seed: int) -> pathlib.Path:
    """A model folder of the tiny run's BERT, with numbers of its own."""
    config, source = tiny.get_config().model, folder / "source"
    source.mkdir(parents=True)
    heads = families.named(config, ["tokens"])
    params = jax.device_get(jax.jit(build(config, heads).init)(jax.random.key(seed)))
    safetensors_file.save(source / "model.safetensors", families.export_params(params, config))
    (source / "config.json").write_text(json.dumps(families.to_hf_config(config, heads)))
    importing.from_hf(str(source), folder / "model", say=lambda line: None)
    return folder / "model"


@pytest.fixture(scope="module")
def story(train_command, tmp_path_factory):
    """(where the base is in the end, the uninterrupted run, the killed one, what every start of the latter said)."""
    root = tmp_path_factory.mktemp("views")
    base = model_folder(root / "base", seed=5)
    first, again = f"--config.init_from={base}", root / "killed"
    start = lambda workdir, *words, **more: train_command(workdir, *FEW, *words, recipe=RECIPE, **more)
    finish(start(root / "whole", first))
    finish(start(again, first, JAXLM_FAULT="kill@step=7"), -signal.SIGKILL)
    moved = base.rename(root / "moved")
    said = {
        "missing": finish(start(again, first), 78),
        "moved": finish(start(again, f"--config.init_from={moved}")),
    }
    return base, moved, root / "whole", again, said


def saved_base(workdir: pathlib.Path) -> dict:
    checkpoints, step = open_run(workdir, say=lambda line: None)
    return checkpoints.meta(step)["base"]


def test_killed_and_resumed_it_ends_in_the_same_bits(story):
    _, _, whole, again, said = story
    assert "resumed from the checkpoint of step 4" in said["moved"]
    assert_same_run(whole, again, STEPS)


def test_a_base_that_is_gone_is_named_with_its_fingerprint_and_may_be_elsewhere(story):
    base, moved, whole, again, said = story
    mark = saved_base(whole)["fingerprint"]
    assert f"was trained on top of {base} (fingerprint {mark[:12]}), which cannot be read." in said["missing"]
    assert "--config.init_from=DIR in training" in said["missing"] and "Traceback" not in said["missing"]
    assert saved_base(again) == {"source": str(moved), "fingerprint": mark}


def test_another_base_is_refused_with_both_fingerprints(story, tmp_path):
    base, _, whole, _, _ = story
    other = model_folder(tmp_path, seed=6)
    with pytest.raises(UserError) as caught:
        fill_mask.main(["fill_mask", f"--run={whole}", f"--base={other}", "returns the [MASK]"])
    mark = saved_base(whole)["fingerprint"][:12]
    theirs = re.search(r"another base \(fingerprint (\w{12})\)", str(caught.value))
    assert theirs and theirs[1] != mark
    assert f"trained on top of {base} (fingerprint {mark}); {other} is another base" in str(caught.value)
    with pytest.raises(UserError, match=f"{mark}.*which cannot be read.*--base=DIR"):
        fill_mask.main(["fill_mask", f"--run={whole}", "returns the [MASK]"])


def test_a_checkpoint_holds_only_what_is_trained(story):
    _, _, whole, _, _ = story
    program = Program.of(flags.load(RECIPE), meshes.make(Mesh(), jax.devices()[:1]))
    arrays = final_state(whole, STEPS)
    assert sorted(a.shape for a in arrays.values()) == sorted(
        leaf.shape for leaf in jax.tree.leaves(program.state)
    )
    frozen = {leaf.shape for leaf in jax.tree.leaves(program.frozen) if leaf.ndim > 1}
    assert not frozen & {array.shape for array in arrays.values()}
    written = sum(
        p.stat().st_size for p in (whole / "checkpoints" / str(STEPS) / "state").rglob("*") if p.is_file()
    )
    assert written < sum(leaf.size * 4 for leaf in jax.tree.leaves(program.params)), (
        "smaller than the model alone"
    )


def test_the_fingerprint_is_the_same_on_one_device_and_on_eight(story):
    _, moved, whole, _, _ = story
    run = flags.load(RECIPE)
    run.init_from = str(moved)
    seen = set()
    for mesh in (meshes.make(Mesh(), jax.devices()[:1]), meshes.make(Mesh(data=1, fsdp=4, tensor=2))):
        with jax.set_mesh(mesh):
            opened = tokenizer.load(whole / "tokenizer")
            program = Program.of(run, mesh)
            seen.add(bases.frozen(program, opened, None, "", lambda line: None)[1].fingerprint)
    assert seen == {saved_base(whole)["fingerprint"]}


def filled(capsys, *words: str) -> list[str]:
    assert fill_mask.main(["fill_mask", *words, "returns the [MASK] of [MASK]"]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("    ")]


def test_commands_use_the_merged_model(story, tmp_path, capsys):
    _, moved, whole, _, _ = story
    words = ["to_hf", str(whole), str(tmp_path / "hf"), f"--base={moved}", "--check"]
    assert convert_checkpoint.main(["convert_checkpoint.py", *words]) == 0
    assert capsys.readouterr().out.endswith("\nthe same model\n")
    out = safetensors_file.load(tmp_path / "hf" / "model.safetensors")
    base = safetensors_file.load(moved.parent / "base" / "source" / "model.safetensors")
    state = final_state(whole, stored.best_step(whole))
    a, b = (state[f"['ema']['blocks']['mlp']['w_in']['lora_{part}']"][1] for part in "ab")
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    expected = np.float64(base[name]) + 8.0 / 4**0.5 * (a.astype(float) @ b.astype(float)).T
    np.testing.assert_allclose(out[name], expected, atol=1e-6, rtol=0)
    assert not np.allclose(out[name], base[name], atol=1e-4, rtol=0)
    assert export.main(["export", str(whole), str(tmp_path / "adapter"), "--adapter", f"--base={moved}"]) == 0
    assert "adapter: LORA, no task of its own, from step 12" in capsys.readouterr().out
    read = stored.of_hf(tmp_path / "adapter", base=str(moved.parent / "base" / "source"))
    for path, array in read.hosts():
        np.testing.assert_allclose(array, stored.of_hf(tmp_path / "hf").host(path), atol=1e-6, rtol=0)
    ours = filled(capsys, f"--run={whole}", f"--base={moved}")
    assert ours and ours == filled(capsys, f"--hf={tmp_path / 'hf'}")


@pytest.mark.slow
def test_what_does_not_merge_is_used_as_it_is_and_exported_by_nobody(train_command, tmp_path, capsys):
    run = tmp_path / "run"
    finish(train_command(run, *FEW, recipe="tests/recipes/views/adapter.py"))
    assert filled(capsys, f"--run={run}")
    with pytest.raises(UserError, match="cannot be merged. Fix: use the run itself"):
        export.main(["export", str(run), str(tmp_path / "hf")])
    assert not (tmp_path / "hf").exists()
