"""The lines a person reads."""

import io

import pytest

from jaxlm.monitor.console import Console, duration, fitted, format_line, human

METRICS = {
    "train/loss": 3.21138,
    "eval/loss": 3.40121,
    "train/lm_loss": 3.2,
    "train/mlm_accuracy": 0.4567,
    "optim/learning_rate": 1.25e-4,
    "optim/grad_norm": 0.98765,
    "throughput/useful_tokens_per_second": 1234567.0,
    "throughput/mfu": 0.4213,
    "time/data_wait_share": 0.021,
}


def test_line_shows_everything_a_reader_needs():
    assert format_line(120, 1000, METRICS, 3725.0) == (
        "step 120/1000  loss 3.2114  held-out 3.4012  perplexity 24.53  accuracy 45.7%  lr 1.25e-04  grad 0.988  "
        "tok/s 1.23M  mfu 42.1%  data wait 2%  eta 1h02m"
    )


def test_line_leaves_out_what_is_unknown():
    assert format_line(1, 9, {"train/loss": 2.0}) == "step 1/9  loss 2.0000"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (120, "1m02s, 3m left  15 of 15  evaluating  step 9/9  loss 3.2"),
        (43, "1m02s, 3m left  6 of 6  evaluating"),
        (30, "1m02s, 3m left  6 of 6"),
        (21, "1m02s, 3m left"),
        (5, "1m02s, 3m left"),
    ],
)
def test_what_does_not_fit_is_dropped_from_the_right_and_the_times_never(width, shown):
    line = fitted(["evaluating", "step 9/9", "loss 3.2"], width, times="1m02s, 3m left", done=1.0)
    bar = f"  {line.done} of {line.done + line.left}" if line.done else ""
    assert line.times + bar + line.rest == shown
    assert len(line.times) + 2 + line.done + len(line.rest) <= width or not line.done


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


def test_run_log_keeps_every_line_over_restarts(tmp_path):
    for text in ("first start", "second\nstart"):
        console = Console(tmp_path, total_steps=9, stream=io.StringIO())
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
