"""What a corpus is made of. In: the texts of one place of it. Out: `Record`, whatever file or hub it came from."""

import dataclasses
from typing import Any

from jaxlm.data.tokens.chat_template import Message

Span = tuple[int, int, str]  # first character, one after the last, label


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Messages; those behind the first `given` hold what is to be learned."""

    messages: tuple[Message, ...]
    given: int = 0


Value = str | float | list[str] | tuple[Any, ...]  # a tuple: of spans, or of conversations


@dataclasses.dataclass(frozen=True)
class Record:
    """One document: a text, or several that belong together; none of them is empty."""

    texts: tuple[str, ...]
    values: tuple[Value, ...] = ()  # of the corpus's columns, in their order
    # Of every text (start, end) of what is tokenised by itself, as it would be alone; (): the whole text.
    pieces: tuple[tuple[tuple[int, int], ...], ...] = ()
    where: str = dataclasses.field(default="", compare=False)  # file and line, for messages about values
    # Number of its file in `Source.names()`, and of its (first) line or row there
    origin: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False)
    split: str = ""  # that it belongs to, where its file says so

    @property
    def characters(self) -> int:
        """Of all texts, with one between them."""
        return sum(map(len, self.texts)) + len(self.texts) - 1

    @property
    def text_bytes(self) -> int:
        """Of all texts as UTF-8, with one between them."""
        sizes = [len(text) if text.isascii() else len(text.encode()) for text in self.texts]
        return sum(sizes) + len(sizes) - 1
