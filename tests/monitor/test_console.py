"""The lines a person reads."""

import io

import pytest

from jaxlm.monitor.console import Console, duration, format_line, human

METRICS = {
    "train/loss": 3.21138,
    "train/mlm_accuracy": 0.4567,
    "optim/learning_rate": 1.25e-4,
    "optim/grad_norm": 0.98765,
    "throughput/useful_tokens_per_second": 1234567.0,
    "throughput/mfu": 0.4213,
    "time/data_wait_share": 0.021,
}


def test_line_shows_everything_a_reader_needs():
    assert format_line(120, 1000, METRICS, 3725.0) == (
        "step 120/1000  loss 3.2114  accuracy 45.7%  lr 1.25e-04  grad 0.988  tok/s 1.23M  mfu 42.1%  data wait 2%  "
        "eta 1h02m"
    )


def test_line_leaves_out_what_is_unknown():
    assert format_line(1, 9, {"train/loss": 2.0}) == "step 1/9  loss 2.0000"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (12, "12"), (999, "999"), (1500, "1.5k"), (2.5e9, "2.5G"), (989e12, "989T")],
)
def test_human(number, text):
    assert human(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (61, "1m01s"), (3600, "1h00m"), (90000, "1d01h")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_a_pipe_gets_plain_lines_only(tmp_path):
    stream = io.StringIO()
    console = Console(tmp_path, total_steps=9, stream=stream)
    console.say("hello")
    console.line(1, {"train/loss": 2.0})
    console.line(2, {"train/loss": 1.0})
    console.close()
    assert stream.getvalue() == "hello\nstep 1/9  loss 2.0000\nstep 2/9  loss 1.0000\n"


def test_a_terminal_gets_one_line_that_is_rewritten_and_events_above_it(tmp_path):
    stream = io.StringIO()
    console = Console(tmp_path, total_steps=9, stream=stream, live=True)
    console.line(1, {"train/loss": 2.0})
    console.say("saved")
    console.line(2, {"train/loss": 1.0})
    console.close()
    shown = []
    for line in stream.getvalue().split("\n"):
        shown.append(line.split("\x1b[2K")[-1])
    assert shown == ["saved", "step 2/9  loss 1.0000", ""]


def test_run_log_keeps_every_line_over_restarts(tmp_path):
    for text in ("first start", "second\nstart"):
        console = Console(tmp_path, total_steps=9, stream=io.StringIO(), live=True)
        console.say(text)
        console.line(3, {"train/loss": 2.0})
        console.close()
    lines = [line[20:] for line in (tmp_path / "run.log").read_text().splitlines()]
    assert lines == ["first start", "step 3/9  loss 2.0000", "second", "start", "step 3/9  loss 2.0000"]


def test_other_processes_are_silent(tmp_path):
    stream = io.StringIO()
    console = Console(tmp_path / "run", total_steps=9, enabled=False, stream=stream)
    console.say("x")
    console.line(1, {})
    console.close()
    assert stream.getvalue() == "" and not (tmp_path / "run").exists()


def test_a_reader_that_goes_away_does_not_stop_training(tmp_path):
    class Gone(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    console = Console(tmp_path, total_steps=9, stream=Gone())
    console.say("one")
    console.line(1, {})
    console.close()
    assert len((tmp_path / "run.log").read_text().splitlines()) == 2
