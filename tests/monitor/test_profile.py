"""Claims about `--config.profile`: the steps asked for are in the trace, whatever ends it, and nothing else changes."""

import functools
import json

import jax
import jax.numpy as jnp
import pytest

from jaxlm.monitor.profile import Trace
from tests import runs

FEW = (*runs.FEW, "--config.logging.every_steps=1", "--config.evaluation.every_steps=1000")


finish = functools.partial(runs.finish, seconds=300)


def steps_in(session):
    """Numbers of the steps in the only file of a session."""
    (path,) = session.glob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    events = [event for plane in planes for line in plane.lines for event in line.events]
    return sorted(dict(event.stats)["step_num"] for event in events if event.name == "train")


def losses(workdir):
    return [json.loads(line)["train/loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def plain(train_command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("plain") / "run"
    finish(train_command(workdir, *FEW))
    return losses(workdir)


def test_the_steps_asked_for_are_traced_and_change_no_loss(train_command, plain, tmp_path):
    output = finish(train_command(tmp_path / "run", *FEW, "--config.profile=3:6"))
    (session,) = (tmp_path / "run" / "profile" / "plugins" / "profile").iterdir()
    assert session.name == "steps-3-to-5" and steps_in(session) == [3, 4, 5]
    assert f"profile: written to {tmp_path / 'run' / 'profile'}" in output
    assert losses(tmp_path / "run") == plain


def test_a_stop_and_the_end_of_a_run_close_the_trace_and_a_resumed_run_traces_the_rest(
    train_command, plain, tmp_path
):
    workdir, asked = tmp_path / "run", "--config.profile=3:100"
    finish(train_command(workdir, *FEW, asked, JAXLM_FAULT="term@step=4"), 75)
    sessions = workdir / "profile" / "plugins" / "profile"
    assert steps_in(sessions / "steps-3-to-99") == [3, 4]
    output = finish(train_command(workdir, *FEW, asked))
    assert "the run goes on after step 4: of steps 3 to 99, steps 5 to 99 are left to be traced" in output
    assert steps_in(sessions / "steps-5-to-99") == list(range(5, 13))
    assert losses(workdir) == plain


def test_what_is_over_when_a_run_goes_on_is_not_traced(tmp_path):
    said = []
    trace = Trace(range(3, 6), tmp_path, settle=lambda: None, say=said.append)
    trace.resume(5)
    with trace.step(6):
        jnp.ones(3).block_until_ready()
    trace.close()
    assert said == ["profile: the run goes on after step 5: of steps 3 to 5, nothing is left to be traced"]
    assert not list(tmp_path.iterdir())


def test_a_trace_that_cannot_be_written_is_a_warning(tmp_path):
    said = []
    (tmp_path / "profile").write_text("in the way")
    trace = Trace(range(1, 3), tmp_path / "profile", settle=lambda: None, say=said.append)
    for step in range(1, 4):
        with trace.step(step):
            jnp.ones(3).block_until_ready()
    (warning,) = said
    assert warning.startswith(f"WARNING: no profile in {tmp_path / 'profile'}: ")
