"""What a pre-trained model does with a text without a task of its own. In: a `Loaded`. Out: a `Task`.

A masked language model fills its masks, one that writes answers, any other embeds.
"""

from collections.abc import Sequence
from typing import Any

from jaxlm.infer import fill_mask, text_reading
from jaxlm.infer.loaded import Loaded
from jaxlm.tasks.task import Item, Task, Values
from jaxlm.tasks.writing import Writing


def of(model: Loaded, *, max_new_tokens: int) -> Task:
    """By its kind and heads; `max_new_tokens`: the longest answer of one that writes."""
    if model.model.config.kind in ("decoder", "encoder_decoder"):
        return Writing(model, max_new_tokens)
    return Filling(model) if "tokens" in model.stored.heads else Embedding(model)


class Filling(Task):
    """The likeliest token for every [MASK], and its probability."""

    does, columns = "fills every [MASK]", ("tokens", "probabilities")

    def __init__(self, model: Loaded) -> None:
        self.model = model

    def check(self, text: str) -> None:
        """There is a mask, and the text fits."""
        fill_mask.check(self.model.tokenizer, [text], row_length=self.model.row_length)

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """Equal texts are asked once."""
        texts = [text for (text,) in items]
        found: dict[str, list[tuple[str, float]]] = {}
        for one in fill_mask.fill(self.model, list(dict.fromkeys(texts)), top=1):
            found.setdefault(one.sentence, []).append(one.candidates[0])
        names, shares = zip(*(zip(*found[text], strict=True) for text in texts), strict=True)
        return [{"tokens": list(n), "probabilities": list(s)} for n, s in zip(names, shares, strict=True)]


class Embedding(Task):
    """A vector of length 1."""

    does, columns = "embeds", ("vector",)

    def __init__(self, model: Loaded) -> None:
        self.model = model

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """Pooled as the run or folder says."""
        vectors, _ = text_reading.vectors(self.model, [text for (text,) in items])
        return [{"vector": vector.tolist()} for vector in vectors]
