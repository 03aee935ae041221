"""Claims about text that is shown while it is made: whole letters, no beginning of a stop text, and nothing lost."""

import itertools

import numpy as np
import pytest

from jaxlm.data.tokens import byte_bpe
from jaxlm.infer.answers import following
from jaxlm.infer.slots import Request, Slots
from jaxlm.infer.streaming import Stream
from tests.infer.predictors import predictor
from tests.infer.test_answers import PLAIN, TEXTS, WORDS, ready

LETTERS = "Schöne Grüße — 日本語 🙂🙃 and so on, STOP here. " * 5


def pieces(ids, before=(), stop=(), tokenizer=WORDS):
    stream, found = Stream(tokenizer, before, stop), []
    for id in ids:
        found.append(stream.add(id))
        if stream.stopped:
            return found
    return [*found, stream.rest()]


@pytest.mark.parametrize("seed", range(4))
def test_pieces_are_whole_letters_and_together_the_text(seed):
    """Of bytes in tokens of their own, cut anywhere; the last seed draws ids at random, which are no letters at all."""
    ids = WORDS.encode(LETTERS)[seed:]
    if seed == 3:
        ids = np.random.default_rng(0).integers(5, WORDS.size, 200).tolist()
    before = WORDS.encode("The cat")
    found = pieces(ids, before)
    assert "".join(found) == following(WORDS, before, ids)
    if seed < 3:
        assert not any("\ufffd" in piece for piece in found[1:])
        assert sum(piece != "" for piece in found) > len(LETTERS) // 8  # shown as it comes


def test_what_may_be_the_beginning_of_a_stop_text_waits():
    ids = WORDS.encode("one. STOP two. STAY three. STOP here")
    found = pieces(ids, stop=("STOP here", "never"))
    assert "".join(found) == "one. STOP two. STAY three. "
    shown = list(itertools.accumulate(found))
    assert all("one. STOP two. STAY three. ".startswith(text) for text in shown)
    assert "one. STOP" in "".join(pieces(WORDS.encode("one. STOP"), stop=("STOP here",)))
    letters = WORDS.encode("a日b")
    assert "".join(pieces(letters, stop=("日",))) == "a"


def test_sentinels_are_shown_by_name():
    marked = byte_bpe.train(TEXTS, 301, 3, "off")
    first, second = marked.vocabulary.sentinels[:2]
    ids = [first, *marked.encode(" the cat"), second, *marked.encode(" ran")]
    assert "".join(pieces(ids, tokenizer=marked)) == "<extra_id_0> the cat <extra_id_1> ran"


def test_slots_stream_an_answer_up_to_its_stop_text():
    model, params = ready()
    engine = Slots(predictor(model, params, WORDS), frame=PLAIN, rows=2, room=60, piece=16)
    prompt = WORDS.encode("The cat")
    ask = lambda **more: engine.submit(Request(ids=prompt, max_new_tokens=20, **more))

    def texts():
        found = {}
        while not engine.idle:
            for event in engine.step():
                text, _ = found.get(event.ticket, ("", None))
                found[event.ticket] = (text + event.text, event.reason)
        return found

    ask()
    whole = texts()[0][0]
    stop = whole[4:7]
    ask(stop=(stop,))
    text, reason = texts()[1]
    assert (text, reason) == (whole[: whole.index(stop)], "stop text")
