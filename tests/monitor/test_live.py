"""The live line on real pseudo-terminals of three widths, on one without abilities, and in a pipe."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

METRICS = {"train/loss": 3.21138, "eval/loss": 3.40121, "train/mlm_accuracy": 0.4567}
LONG = "row 0: [CLS] the [MASK]→cat [bold]sat[/bold] :smile: on" + 20 * " the mat"
TRAINING = f"""
import sys, time
from jaxlm.monitor.console import Console

console = Console(None, total_steps=1000)
try:
    console.doing("compiling")
    console.say("the table")
    console.doing("")
    console.at(120, 3725.0)
    console.line(120, {METRICS})
    time.sleep(2.3)
    print("a stranger's line", file=sys.stderr)
    console.doing("evaluating")
    time.sleep(1.2)
    console.say("{LONG}")
    console.doing("")
    console.at(240, 3600.0)
    time.sleep(1.2)
    sys.argv[1:] == ["fail"] and 1 / 0
    console.rest()
    console.say("the summary")
finally:
    console.close()
"""
PLAIN = "the table\nstep 120/1000  loss 3.2114  held-out 3.4012  accuracy 45.7%\n" + f"{LONG}\nthe summary\n"


class Terminal:
    """A program on a terminal of so many columns."""

    def __init__(self, columns: int, *arguments: str, kind: str = "xterm") -> None:
        self._here, self._there = pty.openpty()
        fcntl.ioctl(self._there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.before = termios.tcgetattr(self._there)
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, *arguments],
            stdin=self._there,
            stdout=self._there,
            stderr=self._there,
            env={**environment, "TERM": kind, "PYTHONUTF8": "1"},
        )

    def end(self) -> str:
        """All that it wrote."""
        read = b""
        while self._process.poll() is None or _waits(self._here):
            if _waits(self._here):
                read += os.read(self._here, 65536)
        self.after = termios.tcgetattr(self._there)
        os.close(self._here)
        os.close(self._there)
        return read.decode().replace("\r\n", "\n")


def _waits(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0.05)[0])


def plain(text: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def screen(text: str) -> list[str]:
    """What stands there in the end, line by line."""
    return [plain(line).split("\x1b[2K")[-1].strip("\r") for line in text.split("\n")]


def drawn(text: str) -> list[str]:
    """Every state of the live line."""
    return [part for part in re.split(r"\r?\x1b\[2K|\n|\r", plain(text)) if " left" in part]


@pytest.fixture(scope="module")
def shown() -> dict:
    """What all of them showed; they run at the same time, as each takes seconds."""
    terminals = {columns: Terminal(columns) for columns in (60, 80, 120)}
    terminals |= {"failed": Terminal(80, "fail"), "dumb": Terminal(80, kind="dumb")}
    piped = subprocess.Popen(
        [sys.executable, "-c", TRAINING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    found = {
        name: (terminal.end(), terminal.before == terminal.after) for name, terminal in terminals.items()
    }
    return {**found, "pipe": (piped.communicate(timeout=60)[0].decode(), True)}


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_time_that_is_left_is_seen_at_every_width(shown, columns):
    lines = drawn(shown[columns][0])
    assert all(re.match(r"\d+s, (\?|[0-9hms]+) left  [━─]+  ", line) for line in lines), lines
    assert all(len(line) < columns for line in lines)
    assert any("1h02m left" in line and "step 120/1000  loss 3.2114" in line for line in lines)
    assert any("evaluating" in line for line in lines) and any("compiling" in line for line in lines)
    assert any("held-out 3.4012" in line for line in lines) == (columns > 60)
    assert any("accuracy" in line for line in lines) == (columns > 80)


def test_it_moves_every_second_while_nobody_tells_it_anything(shown):
    seconds = {line.split("s,")[0] for line in drawn(shown[80][0])}
    assert len(seconds) >= 4, seconds


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_texts_stand_above_the_line_and_the_summary_below_it(shown, columns):
    lines = screen(shown[columns][0])
    assert lines[:3] == ["the table", "a stranger's line", LONG]
    assert "step 240/1000" in lines[3] and lines[4:] == ["the summary", ""]


def test_a_pipe_and_a_terminal_without_abilities_get_plain_lines_only(shown):
    assert shown["pipe"][0] == PLAIN
    assert shown["dumb"][0].replace("a stranger's line\n", "") == PLAIN


def test_after_an_exception_the_terminal_is_as_before_and_the_traceback_below_the_line(shown):
    lines = screen(shown["failed"][0])
    assert (
        "step 240/1000" in lines[3] and lines[4].startswith("Traceback") and "ZeroDivisionError" in lines[-2]
    )
    assert shown["failed"][1]


def test_no_mode_of_the_terminal_is_ever_changed_so_that_a_kill_leaves_none(shown):
    for text, same in shown.values():
        assert same and not re.search(r"\x1b[^\[]|\x1b\[[^0-9mKA]|\x1b\[\?", text)
