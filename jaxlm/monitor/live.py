"""A line that is drawn anew every second: at the foot of a terminal, by rich, or in the output of a notebook's cell.

In: a function that gives the line for a width. Guarantees: a thread of its own draws, so that nobody waits for it; a
terminal is as before when the process is killed in the middle (no hidden cursor, no mode); what others print to it
meanwhile stands above the line; a terminal that goes away ends the drawing only.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

_EVERY_S = 1.0
_NOTEBOOK_WIDTH = 110


class Line(NamedTuple):
    """`times`, a bar of so many characters that are done and to be done, and the rest."""

    times: str
    done: int
    left: int
    rest: str


Draw = Callable[[int], Line]  # of a width in characters


def possible(stream: TextIO) -> bool:
    """Whether lines on this stream can be drawn anew."""
    return _notebook(stream) or (stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"))


class Live:
    """Draws until `stop`."""

    def __init__(self, stream: TextIO, line: Draw) -> None:
        self._surface = (_Notebook if _notebook(stream) else _Terminal)(stream, line)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live line", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """A text that stays."""
        self._surface.say(text)

    def stop(self) -> None:
        """Draws a last time, and leaves the line standing."""
        self._over.set()
        self._thread.join()
        self._surface.stop()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                self._surface.draw()
            except (OSError, ValueError):
                return


class _Terminal:
    def __init__(self, stream: TextIO, line: Draw) -> None:
        from rich import console, live

        class Shown(console.Console):
            def show_cursor(self, show: bool = True) -> bool:
                return False  # it stays visible: who is killed cannot give it back

        self._line = line
        # That it is a terminal was decided above, whatever rich reads from the environment.
        self._console = Shown(file=stream, force_terminal=True, force_interactive=True, force_jupyter=False)
        self._live = live.Live(
            console=self._console,
            auto_refresh=False,
            get_renderable=self._text,
            redirect_stdout=sys.stdout is stream,
            redirect_stderr=sys.stderr.isatty(),  # else it goes where it is sent
        )
        self._live.start(refresh=True)

    def draw(self) -> None:
        self._live.refresh()

    def say(self, text: str) -> None:
        self._console.out(text, highlight=False)

    def stop(self) -> None:
        self._live.stop()

    def _text(self) -> Any:
        from rich.text import Text

        line = self._line(self._console.width - 1)  # a full line would move the cursor to the next
        done, left = ("━", "─") if "utf" in self._console.encoding else ("#", "-")
        bar = (f"  {done * line.done}", "green"), (left * line.left, "bar.back")
        return Text.assemble((line.times, "bold"), *bar, line.rest, no_wrap=True, overflow="crop")


class _Notebook:
    """The line keeps its place; texts follow below it."""

    def __init__(self, stream: TextIO, line: Draw) -> None:
        from IPython.display import display  # pyright: ignore[reportMissingImports]

        self._stream, self._line = stream, line
        self._shown: Any = display(self._text(), raw=True, display_id=True)

    def draw(self) -> None:
        self._shown.update(self._text(), raw=True)

    def say(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def stop(self) -> None:
        self.draw()

    def _text(self) -> dict[str, str]:
        times, done, left, rest = self._line(_NOTEBOOK_WIDTH)
        return {"text/plain": f"{times}  {'━' * done}{'─' * left}{rest}"}


def _notebook(stream: TextIO) -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return stream is sys.stdout and hasattr(shell, "kernel")  # IPython in a terminal has none
