"""The progress line of a preparation. In: counts as parts finish. Out: a line through `log` every few seconds."""

import time
from collections.abc import Callable
from typing import Any

EVERY_S = 2.0


class Progress:
    """Counts documents, tokens and bytes of text; says how far and how fast."""

    def __init__(self, log: Callable[[str], None], text_bytes: int):
        self.log = log
        self.expected = text_bytes  # an estimate; 0 when unknown
        self.start = self.last = time.monotonic()
        self.made_bytes = 0
        self.totals = dict.fromkeys(("documents", "tokens", "text_bytes"), 0)

    def add(self, record: dict[str, Any], made: bool) -> None:
        """A part is finished; `made` is False for one of an earlier run."""
        for name in self.totals:
            self.totals[name] += record[name]
        self.made_bytes += record["text_bytes"] if made else 0
        now = time.monotonic()
        if now - self.last >= EVERY_S:
            self.last = now
            self.log(self.line(now))

    def line(self, now: float) -> str:
        """'preparing: 34 %, 123,456 documents, 28.1 M tokens, 5.2 MB/s, 12 s left'."""
        rate = self.made_bytes / max(now - self.start, 1e-9)
        done = self.totals["text_bytes"]
        words = []
        # Estimates of compressed corpora are rough: no percentage beyond the expected size.
        known = 0 < done <= self.expected
        if known:
            words.append(f"{100 * done / self.expected:.0f} %")
        words.append(f"{self.totals['documents']:,} documents, {self.totals['tokens'] / 1e6:.1f} M tokens")
        words.append(f"{rate / 1e6:.1f} MB/s")
        if known and rate:
            words.append(f"{(self.expected - done) / rate:.0f} s left")
        return "preparing: " + ", ".join(words)

    def summary(self) -> str:
        """'prepared: 123,456 documents, 28.1 M tokens, 123.4 MB of text in 41 s'."""
        took = time.monotonic() - self.start
        return (
            f"prepared: {self.totals['documents']:,} documents, {self.totals['tokens'] / 1e6:.1f} M tokens, "
            f"{self.totals['text_bytes'] / 1e6:.1f} MB of text in {took:.0f} s"
        )
