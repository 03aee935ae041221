"""Claims about slots: greedy answers are `generate`'s, and an answer depends on its request alone, to the bit."""

import dataclasses
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.infer import generate as generating
from jaxlm.infer.frame import Frame
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.sampling import Sampling
from jaxlm.infer.slots import Request, Slots
from jaxlm.models.paths import flatten, nest
from jaxlm.models.several import SeveralLowRank
from tests.infer.predictors import predictor
from tests.infer.small_models import DECODERS, ENCODER_DECODERS, LLAMA, made

PLAIN = Frame(before=(), after=(), start=(), stops=())
ANSWERING = Frame(before=(), after=(1,), start=(0,), stops=())
PROMPTS = [[5, 17, 80, 3, 44, 9, 61], [70], [12, 12, 99, 4, 23, 8, 41, 77, 31, 6, 50] * 3, [33, 2, 90]]
NEW = 19


def slots(config, frame=PLAIN, **changed):
    model, params = made(config)
    settings = {"frame": frame, "rows": 3, "room": 60, "piece": 16, "source_room": 40, "likeliest": 4}
    return Slots(predictor(model, params), **settings | changed)


def answered(engine, late=()):
    """Steps until idle; `late`: (step, request) that come later. By ticket: ids, log-probabilities, reason."""
    found, late, steps = {}, sorted(late, key=lambda pair: pair[0]), 0
    while late or not engine.idle:
        while late and late[0][0] <= steps:
            engine.submit(late.pop(0)[1])
        for event in engine.step():
            ids, log_p, _ = found.get(event.ticket, ((), (), None))
            found[event.ticket] = (ids + event.ids, log_p + event.log_probabilities, event.reason)
        steps += 1
    return found


# The others share these families' code.
_GATE = ("Llama", "Qwen3, QK norm, windows by turns, scaled RoPE", "Mixtral", "GPT-2", "T5", "BART")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _GATE else pytest.mark.slow)
        for name in (*DECODERS, *ENCODER_DECODERS)
    ],
)
def test_greedy_answers_are_those_of_generate(name):
    """Four prompts, one of them of several pieces, in three rows."""
    config, seq2seq = {**DECODERS, **ENCODER_DECODERS}[name], name in ENCODER_DECODERS
    frame = ANSWERING if seq2seq else PLAIN
    model, params = made(config)
    expected, _ = generating.generate(
        predictor(model, params), PROMPTS, frame, new_tokens=NEW, sampling=Sampling(), seed=0
    )
    engine = slots(config, frame)
    for prompt in PROMPTS:
        engine.submit(Request(**{"source_ids" if seq2seq else "ids": prompt}, max_new_tokens=NEW))
    found = answered(engine)
    assert [found[i][0] for i in range(4)] == [w.tokens for w in expected]
    np.testing.assert_allclose(
        [found[i][1] for i in range(4)], [w.log_probabilities for w in expected], atol=2e-5
    )
    assert {reason for *_, reason in found.values()} == {"length"}


LONG = dataclasses.replace(LLAMA, max_positions=700)
DRAWN = Sampling(temperature=1.0, top_k=60, top_p=0.95, min_p=0.001, repetition_penalty=1.2)


def some_ids(seed, number):
    return np.random.default_rng(seed).integers(2, 100, number).tolist()


def others(rng):
    """Seven requests of all sorts at random times, the longest beyond the least that is attended to."""
    lengths = [300, 3, 40, 17, 90, 1, 33]
    return [
        (
            int(rng.integers(0, 30)),
            Request(
                ids=some_ids(100 + i, length),
                max_new_tokens=int(rng.integers(2, 50)),
                sampling=DRAWN if i % 2 else Sampling(),
                seed=i,
                logprobs=i % 3,
            ),
        )
        for i, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("name", ["Llama", "Mixtral"])
def test_an_answer_is_the_same_to_the_bit_alone_and_among_others(name):
    config = LONG if name == "Llama" else dataclasses.replace(DECODERS[name], max_positions=700)
    asked = Request(ids=some_ids(0, 37), max_new_tokens=24, sampling=DRAWN, seed=11)

    def engine():
        return slots(config, rows=4, room=400)

    alone = engine()
    alone.submit(asked)
    expected = answered(alone)[0]
    found = []
    for when in (0, 9, 25):
        crowd = engine()
        requests = others(np.random.default_rng(when))
        tickets = sorted([*requests, (when, asked)], key=lambda pair: pair[0])
        found.append(answered(crowd, tickets)[[r for _, r in tickets].index(asked)])
    assert len(expected[0]) == 24 and len(set(expected[0])) > 8
    assert found == [expected] * 3  # ids and log-probabilities, to the bit


def test_drawn_answers_are_those_of_generate():
    """Each with the filters of its own, in one batch."""
    hows = [
        DRAWN,
        Sampling(temperature=0.7),
        Sampling(temperature=1.3, top_k=5),
        Sampling(temperature=1.0, top_p=0.6),
        Sampling(temperature=1.5, min_p=0.1),
        Sampling(repetition_penalty=1.7),
    ]
    model, params = made(LONG)
    engine = slots(LONG, rows=4, room=400)
    for seed, how in enumerate(hows):
        engine.submit(Request(ids=PROMPTS[0], max_new_tokens=NEW, sampling=how, seed=seed))
    found = answered(engine)
    for seed, how in enumerate(hows):
        settings = {"new_tokens": NEW, "sampling": how, "seed": seed}
        expected = generating.generate(predictor(model, params), PROMPTS[:1], PLAIN, **settings)[0][0]
        assert found[seed][0] == expected.tokens, how


def test_what_another_prompt_began_with_is_copied_and_changes_nothing():
    shared = some_ids(5, 50)  # three whole pieces of 16
    prompts = [shared + some_ids(k, 12) for k in (6, 7, 8)]
    alone = []
    for prompt in prompts:
        engine = slots(LONG, rows=4, room=400)
        engine.submit(Request(ids=prompt, max_new_tokens=12, sampling=DRAWN, seed=3))
        alone.append(answered(engine)[0])
        assert engine.reused == 0
    engine = slots(LONG, rows=4, room=400)
    late = [(7 * k, Request(ids=p, max_new_tokens=12, sampling=DRAWN, seed=3)) for k, p in enumerate(prompts)]
    found = answered(engine, late)  # of a row that runs, and of one that has ended
    assert [found[k] for k in range(3)] == alone
    assert engine.reused == 2 * 48
    engine.submit(Request(ids=prompts[0], max_new_tokens=12, sampling=DRAWN, seed=3))
    assert answered(engine)[3] == alone[0]
    assert engine.reused == 3 * 48


def test_a_cancelled_request_frees_its_row_and_leaves_the_others_alone():
    engine = slots(LONG, rows=2, room=400)
    wanted = [Request(ids=some_ids(k, 20), max_new_tokens=30, sampling=DRAWN, seed=k) for k in range(4)]
    tickets = [engine.submit(request) for request in wanted]
    for _ in range(8):
        engine.step()
    assert (engine.running, engine.waiting) == (2, 2)
    engine.cancel(tickets[0])
    engine.cancel(tickets[2])
    assert (engine.running, engine.waiting) == (1, 1)
    events = engine.step()
    assert engine.running == 2 and engine.waiting == 0
    rest = answered(engine)
    seen = {event.ticket for event in events} | set(rest)
    assert seen == {tickets[1], tickets[3]}
    fresh = slots(LONG, rows=2, room=400)
    fresh.submit(wanted[3])
    assert answered(fresh)[0] == rest[tickets[3]]


def test_the_likeliest_tokens_are_told_where_they_are_asked_for():
    engine = slots(LONG, rows=4, room=400)
    for logprobs in (3, 0):
        engine.submit(Request(ids=PROMPTS[0], max_new_tokens=6, logprobs=logprobs))
    events = []
    while not engine.idle:
        events += engine.step()
    for event in events:
        assert [len(best) for best in event.likeliest] == ([3] * len(event.ids) if event.ticket == 0 else [])
        for id, log_p, best in zip(event.ids, event.log_probabilities, event.likeliest, strict=False):
            assert best[0] == (id, log_p)  # greedy
            assert [p for _, p in best] == sorted((p for _, p in best), reverse=True)


def test_an_answer_ends_at_a_stop_token_but_not_before_its_least_tokens():
    free = slots(LONG, rows=4, room=400)
    free.submit(Request(ids=PROMPTS[0], max_new_tokens=NEW))
    ids = answered(free)[0][0]
    stop, at = ids[4], ids.index(ids[4])
    stopping = dataclasses.replace(PLAIN, stops=(stop,))
    engine = slots(LONG, stopping, rows=4, room=400)
    engine.submit(Request(ids=PROMPTS[0], max_new_tokens=NEW))
    engine.submit(Request(ids=PROMPTS[0], max_new_tokens=NEW, min_new_tokens=at + 3))
    found = answered(engine)
    assert found[0][0] == ids[: at + 1] and found[0][2] == "stop token"
    assert len(found[1][0]) >= at + 3 and stop not in found[1][0][: at + 2]


def test_a_request_that_does_not_fit_is_refused_with_what_is_allowed():
    engine = slots(LLAMA)
    ask = lambda **changed: engine.submit(Request(**{"ids": [5] * 50, "max_new_tokens": 4} | changed))
    with pytest.raises(UserError, match=r"more than a row's room of 60. Allowed: max_new_tokens up to 10"):
        ask(max_new_tokens=11)
    with pytest.raises(UserError, match="Prompt 1 is empty"):
        ask(ids=[])
    with pytest.raises(UserError, match="logprobs=5: allowed: 0 to 4"):
        ask(logprobs=5)
    with pytest.raises(UserError, match="min_new_tokens=5: allowed: 0 to max_new_tokens=4"):
        ask(min_new_tokens=5)
    with pytest.raises(UserError, match="seed=-1"):
        ask(seed=-1)
    with pytest.raises(UserError, match="top_p=0.0|top-p=0.0"):
        ask(sampling=Sampling(top_p=0.0))
    with pytest.raises(UserError, match="it reads ids"):
        ask(source_ids=[3])
    with pytest.raises(UserError, match="stop='' is empty"):
        ask(stop=("",))
    with pytest.raises(UserError, match="this model has no adapters"):
        ask(adapter="one")
    assert engine.idle
    with pytest.raises(UserError, match="rows=0"):
        slots(LLAMA, rows=0)


def with_adapters(config):
    """Two adapters on the queries, beside the base alone."""
    model, params = made(config)
    flat, rng = flatten(params), np.random.default_rng(4)
    base = flat["blocks/attention/wq"]
    layers, width, heads, head_dim = base.shape
    a = rng.normal(0, 0.5, (layers, 3, width, 2)).astype(np.float32)
    b = rng.normal(0, 0.5, (layers, 3, 2, heads, head_dim)).astype(np.float32)
    a[:, 2] = 0
    own = SeveralLowRank(base, jnp.asarray(a), jnp.asarray(b), np.zeros((layers, 0), np.int32))
    return Loaded(
        model=model,
        params=nest({**flat, "blocks/attention/wq": own}),
        mesh=predictor(model, params).mesh,
        tokenizer=None,
        row_length=40,
        stored=types.SimpleNamespace(heads={}),
        adapters={"one": None, "two": None},
    )


def test_every_request_has_the_adapter_it_names():
    ready, names = with_adapters(LLAMA), ["one", None, "two", "one"]
    how = {"new_tokens": NEW, "sampling": Sampling(), "seed": 0}
    expected, _ = generating.generate(ready.choosing(names, 4), PROMPTS[:1] * 4, PLAIN, **how)
    engine = Slots(ready, frame=PLAIN, rows=3, room=60, piece=16)
    for name in names:
        engine.submit(Request(ids=PROMPTS[0], max_new_tokens=NEW, adapter=name))
    found = answered(engine)
    assert [found[k][0] for k in range(4)] == [w.tokens for w in expected]
    assert len({w.tokens for w in expected}) == 3
    with pytest.raises(UserError, match="adapter 'three'"):
        engine.submit(Request(ids=PROMPTS[0], max_new_tokens=NEW, adapter="three"))
