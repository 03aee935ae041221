"""Text of tokens as they come. In: the steps of a writer. Out: pieces of text, cut where a stop text begins.

What may become a stop text, or a letter, waits. A text that is stopped has the tokens up to the one that ended it.
"""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from jaxlm.infer.streaming import Stream
from jaxlm.serve.writer import Step, Wish

Finish = Literal["stop", "length"]


@dataclasses.dataclass
class Piece:
    """New text; at the end why it ended, and all of its tokens with their log-probabilities."""

    text: str
    finish: Finish | None = None
    tokens: Sequence[int] = ()
    log_p: Sequence[float] = ()
    likeliest: Sequence[Sequence[tuple[int, float]]] = ()
    count: int = 0  # tokens so far


async def told(
    steps: AsyncIterator[Step], tokenizer: Any, wish: Wish, ids: Sequence[int], stop: Sequence[str]
) -> AsyncIterator[Piece]:
    """Pieces that make up the answer; the last has `finish`."""
    stream = Stream(tokenizer, () if wish.frame.encoder_decoder else ids, stop)
    read, waiting = 0, ""
    async for step in steps:
        while read < len(step.tokens) and not stream.stopped:
            id = step.tokens[read]
            waiting += stream.add(id) if id not in wish.frame.stops else ""
            read += 1
        if step.reason is not None:
            finish = "stop" if stream.stopped or step.reason in ("stop token", "stop text") else "length"
            tokens, log_p = list(step.tokens[:read]), list((step.log_p or ())[:read])
            yield Piece(waiting + stream.rest(), finish, tokens, log_p, list(step.likeliest[:read]), read)
        elif stream.stopped:
            wish.enough.set()
        else:
            yield Piece(waiting, count=read)
            waiting = ""
