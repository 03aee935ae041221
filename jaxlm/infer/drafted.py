"""Answers with a draft: a small model guesses some tokens, and the model reads them in one step (Leviathan et al.,
2211.17192). In: prompts as text, two models of one tokenizer. Out: the answers of `answers.answer`, and how fast.

Guesses are drawn with the bits of the model's own draws, and one is right if the model draws it, too: what comes out is
what the model alone would write, greedy or drawn, but for ties within rounding.
"""

import dataclasses
import time
from collections.abc import Sequence

from jaxlm.errors import UserError
from jaxlm.infer.answers import Answer, Show
from jaxlm.infer.frame import Frame, asking
from jaxlm.infer.generate import Speed, Written
from jaxlm.infer.predict import Predictor, size
from jaxlm.infer.sampling import Sampling
from jaxlm.infer.slots import Event, Request, Slots

_ROWS = 8


@dataclasses.dataclass(frozen=True)
class DraftSpeed(Speed):
    """With how many tokens a step of the model gave."""

    per_step: float

    def __str__(self) -> str:
        """One line."""
        return f"{super().__str__()}, {self.per_step:.2f} tokens a step of each answer"


def answer(
    predictor: Predictor,
    frame: Frame,
    prompts: Sequence[str],
    *,
    draft: Predictor,
    guesses: int,
    new_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: Sequence[str] = (),
    show: Show | None = None,
    int8: bool = False,
    first: int = 0,
) -> tuple[list[Answer], DraftSpeed]:
    """Answers to all prompts; otherwise as `answers.answer`. UserError for a draft that does not go with the model."""
    if new_tokens < 1:
        raise UserError(f"--max-new-tokens={new_tokens}: must be at least 1.")
    ids = [asking(predictor.tokenizer, frame, prompt) for prompt in prompts]
    lengths = [len(frame.before) + len(one) + len(frame.after) for one in ids]
    longest = max(lengths, default=1)
    engine = Slots(
        predictor,
        frame=frame,
        rows=min(_ROWS, max(len(ids), 1)),
        room=size((len(frame.start) if frame.encoder_decoder else longest) + new_tokens),
        source_room=longest,
        draft=draft,
        guesses=guesses,
        int8=int8,
        likeliest=1,
    )
    name = "source_ids" if frame.encoder_decoder else "ids"
    asked = {"max_new_tokens": new_tokens, "sampling": sampling, "seed": seed, "stop": stop}
    for number, one in enumerate(ids, first):
        engine.submit(Request(**{name: one}, **asked, number=number))
    engine.compile()
    events, speed = _events(engine, sum(lengths), show if len(prompts) == 1 else None)
    return [_together(prompt, found) for prompt, found in zip(prompts, events, strict=True)], speed


def _events(engine: Slots, read: int, show: Show | None) -> tuple[list[list[Event]], DraftSpeed]:
    """By ticket, and how fast: steps that read, or give an answer its first token, apart from the others."""
    found: list[list[Event]] = [[] for _ in range(engine.waiting)]
    reading = writing = 0.0
    tokens = steps = 0
    while not engine.idle:
        begin = time.perf_counter()
        events = engine.step()
        took = time.perf_counter() - begin
        if not events or any(not found[event.ticket] for event in events):
            reading += took
        else:
            writing, steps = writing + took, steps + len(events)
            tokens += sum(len(event.ids) for event in events)
        for event in events:
            found[event.ticket].append(event)
            if show is not None and event.text:
                show(event.text)
    return found, DraftSpeed(read, reading, tokens, writing, tokens / max(steps, 1))


def _together(prompt: str, events: Sequence[Event]) -> Answer:
    reason = events[-1].reason
    assert reason is not None
    tokens = tuple(id for event in events for id in event.ids)
    log_p = tuple(value for event in events for value in event.log_probabilities)
    return Answer(prompt, "".join(event.text for event in events), Written(tokens, log_p, reason))
