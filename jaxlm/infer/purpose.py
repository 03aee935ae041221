"""What a model is for, done to texts. In: a `Loaded`. Out: a `Purpose`, which adds named values to every text's row.

A classifier classifies, a tagger finds spans, a masked language model fills its masks, one that writes answers, any
other embeds. Nothing is drawn at random.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jaxlm.config import Run
from jaxlm.infer import answers, classify, fill_mask, frame, tag, text_reading
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.sampling import Sampling
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.tagging import Tagging

Values = dict[str, Any]
Item = tuple[str, ...]  # a text, or as many as `fields`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Purpose:
    """One use of one model."""

    does: str  # "fills every [MASK]"
    columns: tuple[str, ...]  # names of the values
    check: Callable[[str], None]  # UserError for a text that it cannot take
    answer: Callable[[Sequence[Item]], list[Values]]  # one for each item
    fields: tuple[str, ...] = ("text",)  # what the texts of an item are called where it was trained


def of(model: Loaded, *, max_new_tokens: int) -> Purpose:
    """The purpose of a model; `max_new_tokens`: the longest answer of one that writes."""
    run = model.stored.run
    if run is not None and isinstance(run.objective, Classification):
        return _classifying(model, run)
    if run is not None and isinstance(run.objective, Tagging):
        return _tagging(model, run)
    if model.model.config.kind in ("decoder", "encoder_decoder"):
        return _writing(model, max_new_tokens)
    return _filling(model) if "tokens" in model.stored.heads else _embedding(model)


def _classifying(model: Loaded, run: Run) -> Purpose:
    objective: Classification = run.objective
    return Purpose(
        does=f"one of {len(objective.labels)} labels",
        columns=tuple(objective.answer([1.0] * len(objective.labels))),
        check=lambda text: None,
        answer=lambda items: classify.classify(model, objective, items),
        fields=run.data.corpus_config().wanted.texts,
    )


def _tagging(model: Loaded, run: Run) -> Purpose:
    objective: Tagging = run.objective

    def answer(items: Sequence[Item]) -> list[Values]:
        texts = [text for (text,) in items]
        found = tag.tag(model, objective, texts, between=tag.between(run))
        return [
            {"spans": [{"start": a, "end": b, "label": label, "text": text[a:b]} for a, b, label in spans]}
            for text, spans in zip(texts, found, strict=True)
        ]

    return Purpose(
        does=f"spans with one of {len(objective.labels)} labels",
        columns=("spans",),
        check=lambda text: None,
        answer=answer,
    )


def _filling(model: Loaded) -> Purpose:
    def answer(items: Sequence[Item]) -> list[Values]:
        texts = [text for (text,) in items]
        found: dict[str, list[tuple[str, float]]] = {}
        for one in fill_mask.fill(model, list(dict.fromkeys(texts)), top=1):
            found.setdefault(one.sentence, []).append(one.candidates[0])
        names, shares = zip(*(zip(*found[text], strict=True) for text in texts), strict=True)
        return [{"tokens": list(n), "probabilities": list(s)} for n, s in zip(names, shares, strict=True)]

    def check(text: str) -> None:
        fill_mask.check(model.tokenizer, [text], row_length=model.row_length)

    return Purpose(
        does="the likeliest token for every [MASK]",
        columns=("tokens", "probabilities"),
        check=check,
        answer=answer,
    )


def _writing(model: Loaded, max_new_tokens: int) -> Purpose:
    around = frame.of_loaded(model)
    greedy = {"new_tokens": max_new_tokens, "sampling": Sampling(), "seed": 0}

    def answer(items: Sequence[Item]) -> list[Values]:
        found, _ = answers.answer(model, around, [text for (text,) in items], **greedy)
        return [{"answer": one.text, "ended_by": one.written.reason} for one in found]

    def check(text: str) -> None:
        answers.check(model.model.config, model.tokenizer, around, [text])

    return Purpose(
        does="what the model writes, greedy", columns=("answer", "ended_by"), check=check, answer=answer
    )


def _embedding(model: Loaded) -> Purpose:
    def answer(items: Sequence[Item]) -> list[Values]:
        vectors, _ = text_reading.vectors(model, [text for (text,) in items])
        return [{"vector": vector.tolist()} for vector in vectors]

    return Purpose(does="a vector of length 1", columns=("vector",), check=lambda text: None, answer=answer)
