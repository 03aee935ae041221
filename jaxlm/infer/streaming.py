"""The text of an answer while it is made. In: its ids, one by one. Out: the text that may be shown after each.

Guaranteed: never half a letter, and never the beginning of a stop text that may still come; all pieces together are
what `answers` makes of the same ids. Only the last ids are decoded again, so a token of a long answer costs what one of
a short answer does; where sentinels have names, all.
"""

from collections.abc import Sequence
from typing import Any

from jaxlm.infer.answers import INCOMPLETE, following

_AGAIN = 16  # ids whose text is settled together, and that those behind them are decoded with


class Stream:
    """An answer's text so far."""

    def __init__(self, tokenizer: Any, before: Sequence[int], stop: Sequence[str]) -> None:
        """`before`: ids that the answer goes on from; () for one that stands by itself."""
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._before, self._ids = [*before], []
        self._settled = self._text = ""
        self._shown = 0
        self._named = bool(tokenizer.vocabulary.sentinels)
        self.stopped = False  # whether a stop text has come

    def add(self, id: int) -> str:
        """The text that this id lets be shown."""
        self._ids.append(id)
        piece = following(self._tokenizer, self._before, self._ids)
        self._text = self._settled + piece
        if ends := [end for end in (self._text.find(s) for s in self._stop) if end >= 0]:
            self.stopped, self._text = True, self._text[: min(ends)]
            return self.rest()
        if len(self._ids) >= _AGAIN and not self._named and not piece.endswith(INCOMPLETE):
            self._settled, self._before, self._ids = self._text, self._ids, []
        return self._show(len(self._text.rstrip(INCOMPLETE)) - self._may_stop())

    def rest(self) -> str:
        """What waited, once nothing more comes."""
        return self._show(len(self._text))

    def _show(self, end: int) -> str:
        new = self._text[self._shown : end]
        self._shown = max(self._shown, end)
        return new

    def _may_stop(self) -> int:
        """Letters at the end that a stop text begins with."""
        text = self._text.rstrip(INCOMPLETE)
        sizes = (n for stop in self._stop for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(sizes, default=0)
