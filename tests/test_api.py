"""Claim: from Python as at the command line, to the bit; no name of the API is that of a module."""

import os
import pathlib
import pkgutil
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

import jaxlm
from jaxlm import train
from jaxlm.config import Stage
from jaxlm.errors import UserError
from jaxlm.monitor import metrics
from tests.runs import assert_same_run

ROOT = pathlib.Path(__file__).parents[1]
RECIPE = "tests/recipes/tiny.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXLM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.chdir(ROOT)
        yield


def tiny(corpus) -> jaxlm.Run:
    run = jaxlm.load_recipe(RECIPE)
    run.data.corpus, run.steps, run.stages = corpus, 8, (Stage(length=32, share=1.0),)
    run.evaluation.every_steps, run.checkpoint.every_steps = 4, 4
    return run


@pytest.fixture(scope="module")
def runs(cache, corpus, tmp_path_factory):
    """(what fit gave in a thread, the folder of the same run by its command)."""
    root, outcomes = tmp_path_factory.mktemp("api"), []
    thread = threading.Thread(target=lambda: outcomes.append(jaxlm.fit(tiny(corpus), workdir=root / "fit")))
    thread.start()
    thread.join()
    words = [
        "--config.stages=(Stage(length=32, share=1.0),)",
        "--config.steps=8",
        "--config.evaluation.every_steps=4",
        "--config.checkpoint.every_steps=4",
    ]
    words += [f"--config.data.corpus={corpus}", f"--workdir={root / 'command'}"]
    assert train.main(["train", f"--config={RECIPE}", *words]) == 0
    return outcomes[0], root / "command"


def test_fit_in_a_thread_ends_in_the_bits_of_the_command(runs):
    outcome, command = runs
    assert (outcome.code, outcome.step) == (0, 8)
    assert_same_run(outcome.workdir, command, 8)


def test_an_outcome_has_its_metrics_as_numbers_and_as_arrays(runs):
    outcome, _ = runs
    steps, losses = outcome.curves["eval/loss"]
    assert steps.tolist() == [4, 8] and losses.dtype == np.float64
    assert outcome.metrics["eval/loss"] == losses[-1]
    last = metrics.read(outcome.workdir)[-1]
    assert outcome.curves["train/loss"][1][-1] == last["train/loss"]


def test_the_same_call_again_trains_nothing_and_still_says_what_was_measured(runs, cache, corpus):
    outcome, _ = runs
    before = (outcome.workdir / "metrics.jsonl").read_bytes()
    again = jaxlm.fit(tiny(corpus), workdir=outcome.workdir)
    assert (again.code, again.step, again.metrics) == (0, 8, outcome.metrics)
    assert (outcome.workdir / "metrics.jsonl").read_bytes() == before


def test_what_the_command_refuses_is_a_user_error(runs, cache, corpus):
    outcome, _ = runs
    run = tiny(corpus)
    run.model.hidden = 96
    with pytest.raises(UserError, match=r"(?s)holds another run.*model.hidden: 48 .* 96 now"):
        jaxlm.fit(run, workdir=outcome.workdir)
    run.batch_size = 0
    with pytest.raises(UserError, match=r"config.batch_size=0 is out of range"):
        jaxlm.fit(run, workdir=outcome.workdir / "other")


def test_a_run_opens_as_a_model(runs, cache):
    outcome, _ = runs
    model = jaxlm.load(outcome.workdir)
    assert isinstance(model.params, dict) and all(
        isinstance(x, jax.Array) for x in jax.tree.leaves(model.params)
    )
    (filled,) = model.fill_mask("the [MASK] of a file", top=3)
    shares = [share for _, share in filled.candidates]
    assert len(shares) == 3 and shares == sorted(shares, reverse=True)
    (scored,) = model.logits("the [MASK] of a file")
    place = scored.ids_T.tolist().index(model.tokenizer.vocabulary.mask)
    best = int(np.argmax(scored.logits_TV[place, : model.tokenizer.vocabulary.size]))
    assert model.tokenizer.token(best) == filled.candidates[0][0]
    e_ND = model.embed(["one text", "another text"])
    assert e_ND.shape == (2, 48) and np.allclose(np.linalg.norm(e_ND, axis=1), 1.0, atol=1e-6)
    found = model.evaluate("validation", rows=16)
    assert found["eval/loss"] == pytest.approx(outcome.metrics["eval/loss"], rel=1e-6)
    with pytest.raises(UserError, match="is of the kind encoder, and generating text takes"):
        model.generate("the")


def test_a_batch_is_arrays_and_that_of_the_step(cache, corpus):
    run = tiny(corpus)
    run.stages = jaxlm.load_recipe(RECIPE).stages
    first, second = jaxlm.batch_at(run, 1)[""], jaxlm.batch_at(run, 8)[""]
    assert isinstance(first.tokens_BT, np.ndarray) and first.tokens_BT.shape == (8, 32)
    assert second.tokens_BT.shape == (8, 48)  # of the second stage
    with pytest.raises(UserError, match="step=9: the run has the steps 1 to 8"):
        jaxlm.batch_at(run, 9)


def test_no_name_is_that_of_a_module():
    modules = {module.name for module in pkgutil.iter_modules(jaxlm.__path__)}
    assert not modules & set(jaxlm.__all__)
    assert set(jaxlm.__all__) <= set(dir(jaxlm))
    for name in jaxlm.__all__:
        assert getattr(jaxlm, name).__module__.startswith("jaxlm."), name


@pytest.mark.parametrize("order", ["import jaxlm.train; jaxlm.fit", "jaxlm.fit; import jaxlm.train"])
def test_modules_and_names_do_not_replace_each_other(order):
    code = f"import jaxlm; {order}; assert callable(jaxlm.fit) and callable(jaxlm.train.main); print('both')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.stdout == "both\n", done.stderr


def test_importing_it_imports_no_jax():
    code = "import sys, jaxlm; assert not {'jax', 'numpy', 'flax'} & set(sys.modules); print('light')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "light\n", done.stderr


def test_a_script_that_trains_when_it_is_imported_is_told_so(corpus, tmp_path):
    """What a worker does with the script that started it: it runs it again, as `__mp_main__`."""
    script = tmp_path / "script.py"
    script.write_text("import jaxlm\njaxlm.fit(jaxlm.load_recipe('quickstart'), workdir='run')\n")
    code = f"import multiprocessing.spawn as s; p = s.process.current_process(); p._inheriting = True; s._fixup_main_from_path({str(script)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "UserError: this script trains as soon as it is imported" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr and not (tmp_path / "run").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = jaxlm.fitt
