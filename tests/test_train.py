"""Whole runs, as a user starts them: numerical failures, early stopping, warm start, another mesh, using the result."""

import json
import re
import subprocess
import sys

import pytest

from jaxlm.exchange import stored
from tests import runs
from tests.runs import assert_same_run, finish

FEW = (*runs.FEW, "--config.evaluation.every_steps=4", "--config.logging.every_steps=3")


def lines(workdir) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(train_command, tmp_path_factory):
    """A finished run of 12 steps and what it printed."""
    workdir = tmp_path_factory.mktemp("trained") / "run"
    return workdir, finish(train_command(workdir, *FEW, "--config.show_batch=2"))


def test_a_run_leaves_what_the_readme_says(trained):
    workdir, output = trained
    present = {path.name for path in workdir.iterdir()}
    assert {"config.json", "run.log", "metrics.jsonl", "tensorboard", "tokenizer", "checkpoints"} <= present
    assert list((workdir / "tensorboard").iterdir())
    for fact in (
        "parameters",
        "FLOPs per step",
        "tokens per step",
        "memory per device",
        "checkpoint",
        "attention",
    ):
        assert re.search(rf"^  {fact}  ", output, re.MULTILINE), fact
    assert re.search(
        r"^step 3/12  loss \d\.\d+  accuracy .*lr .*grad .*tok/s .*data wait .*eta", output, re.MULTILINE
    )
    assert "[MASK]→" in output and output.count("row 0: ") == 1
    *_, time, best, heading, fill, embed, evaluate, report, export = output.splitlines()
    assert re.fullmatch(r"time: \S+ for 12 steps, \d\.\d+k useful tokens, \S+ tokens/s while training", time)
    losses = {line["step"]: line["eval/loss"] for line in lines(workdir) if "eval/loss" in line}
    assert best == f"best: step {min(losses, key=losses.get)}, eval/loss {min(losses.values()):.4f}"
    assert heading == "what to type next:"
    assert fill == f'  jaxlm fill_mask --run={workdir} "a [MASK] of tea"'
    assert embed == f'  jaxlm embed --run={workdir} "a text" "another text"'
    assert evaluate == f"  jaxlm evaluate --run={workdir} --split=test"
    assert report == f"  jaxlm report {workdir}"
    assert export == f"  jaxlm export {workdir} {workdir}-hf --check"
    assert re.search(
        r"masked-LM loss \d\.\d+ nats; unigram cross-entropy of the same tokens \d\.\d+ nats", output
    )


def test_samples_at_evaluations_are_kept_and_change_no_bit(trained, train_command, tmp_path):
    workdir = tmp_path / "run"
    output = finish(train_command(workdir, *FEW, "--config.fill=('returns the [MASK].', 'if [MASK] is')"))
    assert_same_run(trained[0], workdir, 12)
    kept = {path.name: path.read_text() for path in (workdir / "samples").iterdir()}
    assert kept.keys() == {"step-4.txt", "step-8.txt", "step-12.txt"}
    assert len(set(kept.values())) == 3 and kept["step-12.txt"] in output
    assert all(
        text.startswith("returns the [MASK].\n    ") and text.count("%") == 10 for text in kept.values()
    )
    (events,) = (workdir / "tensorboard").iterdir()
    assert events.read_bytes().count(b"samples/text_summary") == 3


def test_metric_lines_have_the_documented_names(trained):
    workdir, _ = trained
    documented = (__import__("pathlib").Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    names = {name for line in lines(workdir) for name in line if name != "step"}
    assert {"train/loss", "eval/loss", "optim/learning_rate", "throughput/useful_tokens_per_second"} <= names
    for name in names:
        stem = "eval/mlm_" if name.startswith("eval/mlm") else name
        assert stem in documented, name
    assert [line["step"] for line in lines(workdir)] == [3, 4, 6, 8, 9, 12]


def test_the_same_command_on_a_finished_run_trains_nothing(trained, train_command):
    workdir, _ = trained
    before = (workdir / "metrics.jsonl").read_text()
    assert "the run is complete at step 12" in finish(train_command(workdir, *FEW))
    assert (workdir / "metrics.jsonl").read_text() == before


def test_fill_mask_uses_the_result(trained):
    workdir, _ = trained
    command = [sys.executable, "-m", "jaxlm.fill_mask", f"--run={workdir}", "--top=3"]
    good = subprocess.run(
        [*command, "returns the [MASK] of [MASK]"], capture_output=True, text=True, timeout=120
    )
    assert good.returncode == 0, good.stderr
    filled = [line for line in good.stdout.splitlines() if line.startswith("    ")]
    assert len(filled) == 2 and all(line.count("%") == 3 for line in filled)
    bad = subprocess.run([*command, "no gap here"], capture_output=True, text=True, timeout=120)
    assert bad.returncode == 78 and "has no [MASK] to fill" in bad.stderr and "Traceback" not in bad.stderr


def test_one_bad_step_is_skipped_and_counted(train_command, tmp_path):
    finish(train_command(tmp_path / "run", *FEW, JAXLM_FAULT="nan@step=5"))
    final = lines(tmp_path / "run")[-1]
    assert final["train/skipped_steps"] == 1.0 and final["train/loss"] is not None


def test_bad_steps_in_a_row_end_the_run_with_70_and_their_rows(train_command, tmp_path):
    fault = ",".join(f"nan@step={step}" for step in range(5, 13))
    process = train_command(tmp_path / "run", *FEW, "--config.non_finite_limit=3", JAXLM_FAULT=fault)
    output = finish(process, 70)
    assert "3 steps in a row" in output and "Traceback" not in output
    (dump,) = (tmp_path / "run" / "crash").glob("non_finite-step-*.json")
    found = json.loads(dump.read_text())
    assert found["rows"][0] <= 4 * 8, "the first bad step read rows 32 to 39"
    assert found["rows"][1] - found["rows"][0] + 1 == len(found["items"]) >= 3 * 8


def test_after_divergence_the_advice_continues_from_before_it(train_command, tmp_path):
    workdir, flags = (
        tmp_path / "run",
        (*FEW, "--config.checkpoint.every_steps=1", "--config.non_finite_limit=3"),
    )
    # Step 1 has a rate of 0 (warm-up), step 2 makes the weights huge, step 3 is the first that is not finite.
    output = finish(train_command(workdir, *flags, "--config.optimizer.schedule.peak=1e30"), 70)
    assert "3 steps in a row" in output and "Traceback" not in output
    assert "goes on from the checkpoint of step 1; 2 is now 2.diverged" in output
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["1", "2.diverged"]
    (advice,) = re.findall(r"--config\.optimizer\.schedule\.peak=\S+ --allow_config_change", output)
    lower = advice.replace("1e+29", "3e-3").split()
    again = finish(train_command(workdir, *flags, *lower))
    assert "resumed from the checkpoint of step 1" in again
    assert lines(workdir)[-1]["step"] == 12 and lines(workdir)[-1]["train/skipped_steps"] == 0.0


def test_a_step_that_is_named_is_used_and_not_the_best(trained):
    folders = [p for p in (trained[0] / "checkpoints").iterdir() if p.name.isdecimal()]
    assert len(folders) > 1
    assert {stored.best_step(folder) for folder in folders} == {int(folder.name) for folder in folders}


def test_without_keeping_the_best_an_evaluation_saves_nothing(train_command, tmp_path):
    none = ("--config.checkpoint.keep.best=0", "--config.checkpoint.every_steps=0")
    output = finish(
        train_command(tmp_path / "run", *FEW, *none, JAXLM_FAULT="kill@step=4:phase=save_started")
    )
    assert "done: 12 steps" in output


def test_early_stopping_ends_the_run_and_stays_ended(train_command, tmp_path):
    stale = ("--config.evaluation.patience=1", "--config.checkpoint.keep.best_mode=max")
    output = finish(train_command(tmp_path / "run", *FEW, *stale))
    assert "stopped early: 1 evaluations without a better eval/loss" in output
    again = finish(train_command(tmp_path / "run", *FEW, *stale))
    assert "stopped early" in again and "step 12/12" not in output + again


def test_a_checkpoint_continues_on_another_mesh(train_command, trained, tmp_path):
    workdir = tmp_path / "run"
    stopped = finish(train_command(workdir, *FEW, JAXLM_FAULT="term@step=7"), 75)
    assert stopped.splitlines()[-1] == f"  jaxlm train --workdir={workdir}"
    mesh = ("--config.mesh.fsdp=4", "--config.mesh.tensor=2")
    output = finish(train_command(workdir, *FEW, *mesh, devices=8))
    assert (
        "resumed from the checkpoint of step" in output
        and "changed since the last start:  mesh.fsdp: 1" in output
    )
    one, other = lines(trained[0]), lines(workdir)
    assert [line["step"] for line in one] == [line["step"] for line in other]
    assert other[-1]["eval/loss"] == pytest.approx(one[-1]["eval/loss"], abs=1e-4)


def test_a_new_run_starts_from_the_weights_of_another(train_command, trained, tmp_path):
    workdir, _ = trained
    schedule = ("--config.optimizer.schedule.peak=1e-9", "--config.ema_decay=0")
    output = finish(train_command(tmp_path / "run", *FEW, f"--config.init_from={workdir}", *schedule))
    assert f"weights from step 12 of {workdir}" in output
    start, end = lines(tmp_path / "run"), lines(workdir)
    assert start[-1]["eval/loss"] == pytest.approx(end[-1]["eval/loss"], abs=1e-4)


def test_a_new_run_starts_from_the_export_of_another_and_its_tokenizer_agrees(
    train_command, trained, tmp_path
):
    from jaxlm.exchange import exporting

    workdir, _ = trained
    exporting.to_hf(workdir, tmp_path / "hf", say=print, step=12)
    schedule = ("--config.optimizer.schedule.peak=1e-9", "--config.ema_decay=0")
    output = finish(
        train_command(tmp_path / "run", *FEW, f"--config.init_from=hf:{tmp_path / 'hf'}", *schedule)
    )
    assert "weights from" in output and "fresh" not in output and "left behind" not in output
    start, end = lines(tmp_path / "run"), lines(workdir)
    assert start[-1]["eval/loss"] == pytest.approx(end[-1]["eval/loss"], abs=1e-4)
    card = (tmp_path / "hf" / "README.md").read_text()
    assert (
        card.startswith("---\nlibrary_name: transformers")
        and "| steps | 12 of" in card
        and "| eval/loss |" in card
    )
