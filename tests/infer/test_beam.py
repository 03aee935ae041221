"""Claims about beam search: it finds what there is to find, on any mesh; its settings are refused by name."""

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
from jaxlm.objectives.search import Search
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from tests.infer.predictors import predictor
from tests.infer.small_models import ENCODER_DECODERS, VOCAB, made

STOP, WORDS, NEW = 2, (3, 4, 5), 3
PROMPTS = [[7, 8, 9], [50, 40], [21], [66, 6, 60, 33, 30]]
FRAME = Frame(before=(), after=(), start=(0,), stops=(STOP,))
KNOWN = np.isin(np.arange(VOCAB), (STOP, *WORDS))
WIDE = Search(beams=40, n_best=40, length_penalty=0.7, early_stopping="never")


def every_text():
    """All that can be written with three words: up to a stop, or NEW of them."""
    for length in range(NEW):
        yield from ((*words, STOP) for words in itertools.product(WORDS, repeat=length))
    yield from itertools.product(WORDS, repeat=NEW)


def log_p(model, params, prompt, texts):
    """[texts]: of every text, by the computation without a cache."""
    targets = np.array([[*text, *[STOP] * (NEW - len(text))] for text in texts])
    ones = np.ones_like(targets)
    source = np.tile(prompt, (len(texts), 1))
    batch = Batch(
        tokens_BT=np.concatenate([np.zeros((len(texts), 1), int), targets[:, :-1]], axis=1),
        segments_BT=ones,
        positions_BT=ones * np.arange(NEW),
        source_tokens_BS=source,
        source_segments_BS=np.ones_like(source),
        source_positions_BS=np.ones_like(source) * np.arange(len(prompt)),
    )
    module = model.bind(params)
    logits = module.predict_tokens(module.encode(batch).x_BTD)[..., :VOCAB]
    shares = jax.nn.log_softmax(jnp.where(KNOWN, logits, -jnp.inf))
    own = np.take_along_axis(np.asarray(shares, np.float64), targets[..., None], axis=2)[..., 0]
    return np.array([row[: len(text)].sum() for row, text in zip(own, texts, strict=True)])


@pytest.fixture(scope="module")
def found():
    """By a search as wide as there are texts."""
    model, params = made(ENCODER_DECODERS["T5"])
    return generating.search(
        predictor(model, params), PROMPTS, FRAME, new_tokens=NEW, how=WIDE, known_V=KNOWN
    )[0]


def test_a_search_wide_enough_finds_every_text_in_order(found):
    model, params = made(ENCODER_DECODERS["T5"])
    texts = list(every_text())
    assert len(texts) == 40
    for prompt, several in zip(PROMPTS, found, strict=True):
        lengths = np.array(list(map(len, texts)))
        scores = log_p(model, params, prompt, texts) / lengths**WIDE.length_penalty
        order = np.argsort(-scores)
        assert [one.tokens for one in several] == [texts[i] for i in order]
        np.testing.assert_allclose([one.score for one in several], scores[order], rtol=1e-4)
        assert {one.reason for one in several} == {"stop token", "length"}


def test_rows_on_several_devices_find_the_same(found):
    one = predictor(*made(ENCODER_DECODERS["T5"]))
    split = dataclasses.replace(one, mesh=meshes.local(Mesh(data=8)))
    again, _ = generating.search(split, PROMPTS, FRAME, new_tokens=NEW, how=WIDE, known_V=KNOWN)
    for several, others in zip(again, found, strict=True):
        assert [one.tokens for one in several] == [one.tokens for one in others]
        np.testing.assert_allclose([one.score for one in several], [one.score for one in others], rtol=1e-5)


def test_where_nothing_more_can_be_said_the_answer_says_so():
    """No word twice, and no end allowed: three words are left, then none."""
    how = Search(beams=2, n_best=2, no_repeat_ngram=1, min_new_tokens=9, early_stopping="yes")
    model = predictor(*made(ENCODER_DECODERS["T5"]))
    several = generating.search(model, PROMPTS[:1], FRAME, new_tokens=4, how=how, known_V=KNOWN)[0][0]
    assert all(one.tokens == () and one.score == -np.inf and one.reason == "length" for one in several)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beams": 0}, r"--beams=0 is out of range; allowed: 1 \(greedy\)"),
        ({"beams": 2, "n_best": 3}, r"--n-best=3 is out of range; allowed: 1 to the number of beams, 2"),
        ({"length_penalty": float("nan")}, r"--length-penalty=nan"),
        ({"early_stopping": "maybe"}, r"--early-stopping=maybe .* no, yes, never"),
        ({"no_repeat_ngram": -1}, r"--no-repeat-ngram=-1"),
        ({"min_new_tokens": -1}, r"--min-new-tokens=-1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Search(**settings).validate()
