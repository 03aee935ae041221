"""Claims about answers read off scores: the best span of all windows, against every span there is; no answer."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxlm.infer import extract
from jaxlm.infer.predict import Predictor
from jaxlm.models.build import build
from jaxlm.objectives.question_answering import QuestionAnswering
from jaxlm.partition import mesh as meshes
from tests.exchange.folders import CONFIG, tokenizer

OBJECTIVE = QuestionAnswering(
    column="answers",
    no_answer=True,
    max_tokens=16,
    overlap=3,
    question_tokens=5,
    items_per_row=4,
    answer_tokens=4,
)
CONTEXT = "the cat sat on the mat and a dog sat in the garden, where birds sing all day and nobody cares"
ITEMS = [
    ("where is the cat?", CONTEXT),
    ("who?", "a dog"),
    ("where do the birds sing all day long?", CONTEXT[20:]),
]


@pytest.fixture(scope="module")
def predictor():
    config = dataclasses.replace(CONFIG, init_scale=0.5)
    model = build(config, OBJECTIVE.heads(config))
    mesh = meshes.make(meshes.Mesh(), devices=jax.devices()[:1])
    return Predictor(
        model=model,
        params=jax.jit(model.init)(jax.random.key(2)),
        mesh=mesh,
        tokenizer=tokenizer(),
        row_length=32,
    )


def test_the_best_spans_are_the_best_of_all():
    rng = np.random.default_rng(0)
    for tokens in (1, 2, 9, 40):
        for longest in (1, 3, 60):
            scores_T2 = rng.normal(size=(tokens, 2)).astype(np.float32)
            every = [
                (first, last, float(scores_T2[first, 0] + scores_T2[last, 1]))
                for first in range(tokens)
                for last in range(first, min(first + longest, tokens))
            ]
            expected = sorted(every, key=lambda one: -one[2])[:20]
            found = extract.spans(scores_T2, longest, 20)
            assert [one[:2] for one in found] == [one[:2] for one in expected]
            np.testing.assert_allclose([one[2] for one in found], [one[2] for one in expected], rtol=1e-6)
    assert extract.spans(np.zeros((0, 2)), 3, 20) == []


def test_answers_are_the_best_over_all_windows_in_characters_of_the_context(predictor):
    """Against every span of every window; the score of a span that several have is the largest."""
    said = extract.scores(predictor, OBJECTIVE, ITEMS)
    found = extract.answers(predictor.tokenizer, OBJECTIVE, ITEMS, said)
    assert [len(one) > 3 for one in said] == [True, False, True]
    for (question, context), windows, one in zip(ITEMS, said, found, strict=True):
        (asked, _), (_, offsets) = predictor.tokenizer.encode_batch_with_offsets([question, context])
        room = 16 - 3 - min(len(asked), 5)
        every = {}
        for w, scores_T2 in enumerate(windows):
            begin = w * (room - 3)
            for first in range(len(scores_T2) - 1):
                for last in range(first, min(first + 4, len(scores_T2) - 1)):
                    place = int(offsets[begin + first, 0]), int(offsets[begin + last, 1])
                    score = scores_T2[1 + first, 0] + scores_T2[1 + last, 1]
                    every[place] = max(every.get(place, -np.inf), score)
        ranked = sorted(every.items(), key=lambda item: -item[1])[:20]
        assert [(c.start, c.end) for c in one.candidates] == [place for place, _ in ranked]
        np.testing.assert_allclose([c.score for c in one.candidates], [score for _, score in ranked])
        none = min(float(scores_T2[0].sum()) for scores_T2 in windows)
        assert one.none_score == pytest.approx(none - one.candidates[0].score)
        assert all(context[c.start : c.end].strip() == context[c.start : c.end] != "" for c in one.candidates)


def test_an_item_of_a_batch_is_answered_as_alone(predictor):
    together = extract.scores(predictor, OBJECTIVE, ITEMS)
    for item, one in zip(ITEMS, together, strict=True):
        (alone,) = extract.scores(predictor, OBJECTIVE, [item], batch_size=1)
        assert len(alone) == len(one)
        for a, b in zip(alone, one, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_context_without_a_token_has_no_answer(predictor):
    items = [("who?", "\x00")]
    (found,) = extract.answers(
        predictor.tokenizer, OBJECTIVE, items, extract.scores(predictor, OBJECTIVE, items)
    )
    assert found.candidates == [] and found.none_score > 1e6
