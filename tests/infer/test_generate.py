"""Claims about generation: the cache changes nothing, rows are independent, and every way to end is told apart."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.infer import generate as generating
from jaxlm.infer.frame import Frame
from jaxlm.infer.sampling import Sampling
from tests.infer.copies import copied
from tests.infer.predictors import predictor
from tests.infer.small_models import DECODERS, ENCODER_DECODERS, LLAMA, VOCAB, made

PLAIN = Frame(before=(), after=(), start=(), stops=())
PROMPTS = [[5, 17, 80, 3, 44, 9, 61], [70], [12, 12, 99, 4, 23, 8, 41, 77, 31, 6, 50], [33, 2, 90]]
NEW = 19


def generate(config, prompts=PROMPTS, frame=PLAIN, **changed):
    model, params = made(config) if not isinstance(config, tuple) else config
    settings = {"new_tokens": NEW, "sampling": Sampling(), "seed": 0} | changed
    return generating.generate(predictor(model, params), prompts, frame, **settings)[0]


def rows(texts, width):
    """Tokens, segments and positions of texts that are padded behind."""
    tokens = np.zeros((len(texts), width), np.int32)
    for i, text in enumerate(texts):
        tokens[i, : len(text)] = text
    segments = (np.arange(width)[None] < np.array([len(text) for text in texts])[:, None]).astype(np.int32)
    return tokens, segments, np.arange(width, dtype=np.int32)[None] * segments


def recomputed(config, prompts, number, start=()):
    """Greedy tokens and their log-probabilities, every step over the whole texts, without a cache."""
    model, params = made(config)
    width = max(map(len, prompts))
    source = rows([[*prompt, 1] for prompt in prompts], width + 3) if start else ()
    given = dict(zip(("source_tokens_BS", "source_segments_BS", "source_positions_BS"), source, strict=False))

    @jax.jit
    def step(params, tokens, segments, positions):
        batch = Batch(tokens_BT=tokens, segments_BT=segments, positions_BT=positions, **given)
        module = model.bind(params)
        return jax.nn.log_softmax(module.predict_tokens(module.encode(batch, None).x_BTD))

    texts = [list(start or prompt) for prompt in prompts]
    begun, log_p = [len(text) for text in texts], []
    for _ in range(number):
        scores = np.asarray(step(params, *rows(texts, width + number)))
        last = [scores[i, len(text) - 1] for i, text in enumerate(texts)]
        log_p.append([float(row.max()) for row in last])
        for text, row in zip(texts, last, strict=True):
            text.append(int(row.argmax()))
    tokens = [tuple(text[length:]) for text, length in zip(texts, begun, strict=True)]
    return tokens, np.array(log_p).T


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_by_cache_is_greedy_by_full_recomputation(name):
    found = generate(DECODERS[name])
    tokens, log_p = recomputed(DECODERS[name], PROMPTS, NEW)
    assert [w.tokens for w in found] == tokens
    np.testing.assert_allclose([w.log_probabilities for w in found], log_p, atol=1e-5)
    assert {w.reason for w in found} == {"length"}


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_an_encoder_decoder_answers_as_by_full_recomputation(name):
    found = generate(ENCODER_DECODERS[name], frame=Frame(before=(), after=(1,), start=(0,), stops=()))
    tokens, log_p = recomputed(ENCODER_DECODERS[name], PROMPTS, NEW, start=(0,))
    assert [w.tokens for w in found] == tokens
    np.testing.assert_allclose([w.log_probabilities for w in found], log_p, atol=1e-5)


@pytest.mark.parametrize("before", [3, 250])
@pytest.mark.parametrize("name", DECODERS)
def test_features_through_the_cache_are_those_of_the_whole_row(name, before):
    """In pieces of 4, 1 and 3 tokens, after padding on the left; from slot 257 on more of the cache is attended to."""
    model, params = made(DECODERS[name])
    tokens = jnp.array([[5, 17, 80, 3, 44, 9, 61, 30]], jnp.int32)
    ones, places = jnp.ones_like(tokens), jnp.arange(8)[None]

    @jax.jit
    def both(params):
        module = model.bind(params)
        batch = Batch(tokens_BT=tokens, segments_BT=ones, positions_BT=places)
        cache = module.start_cache(batch, before + 10)
        padding = jnp.zeros((1, before), jnp.int32)
        _, cache = module.extend(padding, padding, padding, cache)
        parts = []
        for begin, end in ((0, 4), (4, 5), (5, 8)):
            span = slice(begin, end)
            x_BTD, cache = module.extend(tokens[:, span], ones[:, span], places[:, span], cache)
            parts.append(x_BTD)
        predict = module.predict_tokens
        return predict(module.encode(batch, None).x_BTD), predict(jnp.concatenate(parts, axis=1))

    whole, pieces = both(params)
    np.testing.assert_allclose(pieces[..., :VOCAB], whole[..., :VOCAB], atol=1e-5 * float(whole.max()))


def test_a_prompt_that_sees_itself_as_a_whole_gives_what_a_prefix_gives():
    config = DECODERS["GPT-2"]
    model, params = made(config)
    prompt = PROMPTS[0]
    found = generate((model, params), [prompt, PROMPTS[1]], dataclasses.replace(PLAIN, prefix=True))[0]
    tokens, segments, positions = rows([[*prompt, *found.tokens]], len(prompt) + NEW)
    batch = Batch(
        tokens_BT=tokens,
        segments_BT=segments,
        positions_BT=positions,
        prefix_BT=(np.arange(len(prompt) + NEW) < len(prompt)).astype(np.int32)[None],
    )
    module = model.bind(params)
    scores = module.predict_tokens(module.encode(batch, None).x_BTD)[0, len(prompt) - 1 : -1]
    assert np.asarray(scores).argmax(-1).tolist() == list(found.tokens)
    assert found.tokens != generate((model, params), [prompt])[0].tokens


def test_rows_do_not_depend_on_their_company_also_when_sampling():
    ready, how = made(LLAMA), Sampling(temperature=1.1, top_k=20, repetition_penalty=1.2)
    together = generate(ready, sampling=how)
    for number in (1, 3):
        alone = generate(ready, PROMPTS[: number + 1], sampling=how)[number]
        assert alone.tokens == together[number].tokens


def test_a_seed_reproduces_and_another_differs():
    ready, how = made(LLAMA), Sampling(temperature=1.0)
    texts = [[w.tokens for w in generate(ready, sampling=how, seed=seed)] for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    same = generate(ready, [PROMPTS[0]] * 2, sampling=how)
    assert same[0].tokens != same[1].tokens  # two rows, two draws


def test_drawn_first_tokens_follow_the_softmax():
    """Chi-square over 1,500 rows of one prompt; the ten likeliest tokens and the rest."""
    ready = made(dataclasses.replace(LLAMA, layers=1))
    number = 1500
    first = generate(ready, [PROMPTS[3]] * number, sampling=Sampling(temperature=1.0), new_tokens=1, seed=5)
    module = ready[0].bind(ready[1])
    tokens, segments, positions = rows([PROMPTS[3]], 3)
    batch = Batch(tokens_BT=tokens, segments_BT=segments, positions_BT=positions)
    share = np.asarray(jax.nn.softmax(module.predict_tokens(module.encode(batch, None).x_BTD)[0, -1]))
    best = np.argsort(-share)[:10]
    expected = number * np.append(share[best], 1 - share[best].sum())
    drawn = np.array([w.tokens[0] for w in first])
    counts = np.append([(drawn == id).sum() for id in best], (~np.isin(drawn, best)).sum())
    assert ((counts - expected) ** 2 / expected).sum() < 29.6  # 99.9 % point of 10 degrees
    np.testing.assert_allclose([w.log_probabilities[0] for w in first], np.log(share[drawn]), atol=1e-4)


def test_a_stop_token_ends_its_row_only():
    free = generate(LLAMA)
    stop = free[0].tokens[4]
    found = generate(LLAMA, frame=dataclasses.replace(PLAIN, stops=(stop, VOCAB + 3)))
    for before, after in zip(free, found, strict=True):
        end = before.tokens.index(stop) + 1 if stop in before.tokens else NEW
        assert after.tokens == before.tokens[:end]
        assert after.reason == ("stop token" if stop in before.tokens else "length")
    assert len({w.reason for w in found}) == 2 or all(stop in w.tokens for w in free)


def test_a_watcher_sees_the_text_grow_and_may_end_rows():
    seen = []

    def watch(texts):
        seen.append([len(text) for text in texts])
        return {1} if len(texts[1]) > 10 else set()

    found = generate(LLAMA, watch=watch, new_tokens=40)
    assert seen[0] == [1] * 4 and len(seen) == 4
    assert [w.reason for w in found] == ["length", "stop text", "length", "length"]
    assert [len(w.tokens) for w in found] == [40, 17, 40, 40]
    assert [w.tokens[:17] for w in found] == [w.tokens[:17] for w in generate(LLAMA, new_tokens=40)]


@pytest.mark.parametrize("name", ["Llama", "GPT-2"])
def test_the_last_position_ends_a_text(name):
    longest = DECODERS[name].max_positions
    prompts = [[7] * longest, [8] * (longest - 5), [9]]
    found = generate(DECODERS[name], prompts)
    assert [(len(w.tokens), w.reason) for w in found] == [(1, "positions"), (6, "positions"), (NEW, "length")]


def test_prompts_that_cannot_be_read_are_refused_by_number():
    with pytest.raises(UserError, match=r"Prompt 2 has 65 tokens, more than this model has positions"):
        generate(LLAMA, [[7], [7] * 65])
    with pytest.raises(UserError, match="Prompt 1 is empty"):
        generate(LLAMA, [[]])
    with pytest.raises(UserError, match="--max-new-tokens=0"):
        generate(LLAMA, new_tokens=0)
    assert generate(LLAMA, []) == []


def test_prompts_of_nearby_lengths_share_a_program():
    from jaxlm.infer import decode

    ready = made(LLAMA)
    sizes = []
    for length in (1, 9, 16, 17, 30):
        generate(ready, [[3] * length], new_tokens=10)
        sizes.append((decode.prefill._cache_size(), decode.decode._cache_size()))
    grown = [b != a for a, b in itertools.pairwise(sizes)]
    assert grown == [False, False, True, False]


@pytest.mark.parametrize("kind", ["Llama", "Qwen3, QK norm, windows by turns, scaled RoPE", "T5"])
def test_no_token_copies_the_cache(kind):
    """Of the compiled loop: 700 slots, of which only the first 256 or 512 are read while no more are written."""
    from jaxlm.infer import decode

    model = made({**DECODERS, **ENCODER_DECODERS}[kind])[0]
    frame = Frame(before=(), after=(1,), start=(0,), stops=()) if kind == "T5" else PLAIN
    batch = generating.sources(PROMPTS, frame) if kind == "T5" else generating._left_padded(PROMPTS)
    one_B = np.ones(len(PROMPTS), np.int32)
    keys = jax.random.split(jax.random.key(0), len(PROMPTS))
    rows = decode.Prompts(batch=batch, limit_B=one_B, stops=one_B[:1], key_B=keys)
    how = {"sampling": Sampling()}
    state = jax.eval_shape(
        lambda p: decode.prefill(model, p, rows, room=700, prefix=False, **how), model.shapes
    )
    text = decode.decode.lower(model, model.shapes, rows, state, np.int32(9), **how).compile().as_text()
    assert copied(text, state.cache.k_LBSKH) == []
    assert "dynamic-update-slice" in text
