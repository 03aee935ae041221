"""Text of tokens as they come. In: the steps of a writer. Out: pieces of text, cut where a stop text begins.

What may become a stop text, or a letter, waits. A text that is stopped has the tokens up to the one that ended it.
"""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from jaxlm.infer.answers import Reader
from jaxlm.serve.writer import Step, Wish

Finish = Literal["stop", "length"]


@dataclasses.dataclass
class Piece:
    """New text; at the end why it ended, and all of its tokens with their log-probabilities."""

    text: str
    finish: Finish | None = None
    tokens: Sequence[int] = ()
    log_p: Sequence[float] = ()
    count: int = 0  # tokens so far


async def told(
    steps: AsyncIterator[Step], tokenizer: Any, wish: Wish, ids: Sequence[int], stop: Sequence[str]
) -> AsyncIterator[Piece]:
    """Pieces that make up the answer; the last has `finish`."""
    pieces: list[str] = []
    reader = Reader(tokenizer, wish.frame, [ids], tuple(stop), pieces.append)
    async for step in steps:
        tokens = list(step.tokens)
        stopped = bool(reader.look([tokens]))
        if stopped and step.reason is None:
            wish.enough.set()
        elif step.reason is None:
            yield Piece("".join(pieces), count=len(tokens))
            pieces.clear()
        else:
            tokens = tokens[: _needed(reader, tokens)] if stopped else tokens
            reader.finish([reader.text(0, tokens)])
            finish = "stop" if stopped or step.reason in ("stop token", "stop text") else "length"
            yield Piece("".join(pieces), finish, tokens, list(step.log_p or ())[: len(tokens)], len(tokens))


def _needed(reader: Reader, tokens: list[int]) -> int:
    """How many tokens it takes for a stop text to be there."""
    return next(n for n in range(1, len(tokens) + 1) if reader.look([tokens[:n]]))
