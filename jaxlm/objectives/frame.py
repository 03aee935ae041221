"""What stands around a prompt, and what ends an answer: ids that a model was trained with.

In: what an objective's `prepare` lays out (`Objective.frame`), or settings beside weights. Out: a `Frame`.
"""

import dataclasses

Ids = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Ids. `start` is what the decoder of an encoder-decoder begins with; () is a decoder, which continues prompts."""

    before: Ids  # a prompt
    after: Ids
    start: Ids
    stops: Ids  # each of them ends an answer
    chat: bool = (
        False  # whether a prompt is what a user says, and the tokenizer's chat template stands around it
    )
    prefix: bool = False  # whether a prompt's tokens see those behind them too (prefix LM)

    @property
    def apart(self) -> bool:
        """Whether an answer stands by itself, and does not go on with the prompt."""
        return self.encoder_decoder or self.chat

    @property
    def encoder_decoder(self) -> bool:
        """Whether the prompt is the source of an encoder-decoder."""
        return bool(self.start)
