import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Row, Vocabulary, stacked
from jaxlm.errors import UserError
from jaxlm.models.encoded import Encoded
from jaxlm.models.masks import at_places
from jaxlm.objectives.masked_lm import MaskedLM, Ngrams, Tokens, Words

V = 97
SPECIAL = np.zeros(V, bool)
SPECIAL[[0, 2, 3, 4]] = True
CONTINUES = np.arange(V) % 3 == 0
VOCABULARY = Vocabulary(size=V, pad=0, unk=1, cls=2, sep=3, mask=4, special_V=SPECIAL, continues_V=CONTINUES)


TOKENS = Tokens()
UNITS = [TOKENS, Words(), Ngrams(longest=3, of="words"), Ngrams(longest=4, of="tokens")]


def objective(rate=0.15, unit=TOKENS, mask_share=0.8, random_share=0.1):
    return MaskedLM(
        rate=rate,
        evaluation_rate=0.15,
        mask_share=mask_share,
        random_share=random_share,
        unit=unit,
    )


def make_row(sizes=(40, 31, 9), length=101, seed=0):
    """Items of `sizes` tokens, special ones included."""
    rng = np.random.default_rng(seed)
    row = Row(**{f"{n}_T": np.zeros(length, np.int32) for n in ("tokens", "segments", "positions", "texts")},
              first_C=np.zeros(3, np.int32))  # fmt: skip
    at = 0
    for c, size in enumerate(sizes):
        row.tokens_T[at : at + size] = [2, *rng.integers(5, V, size - 2), 3]
        row.segments_T[at : at + size], row.positions_T[at : at + size] = c + 1, np.arange(size)
        at += size
    return row


def prepare(row, seed=0, train=True, **kwargs):
    got = objective(**kwargs).prepare(row, VOCABULARY, np.random.default_rng(seed), train=train)
    real = got.targets.weights_BM > 0
    return got, got.targets.places_BM[real], got.targets.ids_BM[real]


@pytest.mark.parametrize("unit", UNITS, ids=repr)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_as_many_tokens_are_predicted_as_published(rate, unit):
    row = make_row()
    counts = [len(prepare(row, seed, rate=rate, unit=unit)[1]) for seed in range(100)]
    assert max(counts) == round(rate * 80)
    assert unit != Tokens() or min(counts) == round(rate * 80)
    assert min(counts) >= round(rate * 80) - 4  # whole words: what is left may be too small for any word


def test_evaluation_uses_its_own_rate():
    row = make_row()
    assert len(prepare(row, rate=0.4, train=False)[1]) == 12
    assert objective(rate=0.4).slots(101, train=False) == 16
    assert objective(rate=0.4).slots(101, train=True) == 41


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_targets_are_the_tokens_that_stood_there_and_nothing_else_changes(unit):
    row = make_row()
    for seed in range(30):
        got, predict, targets = prepare(row, seed, unit=unit)
        assert len(set(predict.tolist())) == len(predict) and sorted(predict) == predict.tolist()
        np.testing.assert_array_equal(row.tokens_T[predict], targets)
        assert not SPECIAL[targets].any()
        untouched = np.setdiff1d(np.arange(101), predict)
        np.testing.assert_array_equal(got.tokens_BT[untouched], row.tokens_T[untouched])
        for name in ("segments", "positions"):
            np.testing.assert_array_equal(getattr(got, f"{name}_BT"), getattr(row, f"{name}_T"))
        np.testing.assert_array_equal(got.types_BT, row.texts_T)
        unused = got.targets.weights_BM == 0
        assert not got.targets.places_BM[unused].any() and not got.targets.ids_BM[unused].any()


def test_of_the_chosen_80_percent_are_masked_10_random_10_kept():
    row, shown, targets = make_row(), [], []
    for seed in range(1500):
        got, predict, wanted = prepare(row, seed)
        shown.append(got.tokens_BT[predict])
        targets.append(wanted)
    shown, targets = np.concatenate(shown), np.concatenate(targets)
    n, four = len(shown), lambda p: 4 * np.sqrt(p * (1 - p) / len(shown))
    assert n == 1500 * 12
    assert abs((shown == 4).mean() - 0.8) < four(0.8)
    kept = 0.1 + 0.1 / (V - 4)  # a random token may be the one that stood there
    assert abs((shown == targets).mean() - kept) < four(kept)
    random = shown[(shown != 4) & (shown != targets)]
    assert not SPECIAL[random].any()
    counts = np.bincount(random, minlength=V)[~SPECIAL]
    assert counts.min() > 0 and ((counts - counts.mean()) ** 2 / counts.mean()).sum() < V + 5 * np.sqrt(2 * V)


def test_positions_are_uniform_over_the_tokens_that_are_not_special():
    row, counts = make_row(), np.zeros(101)
    for seed in range(2000):
        counts[prepare(row, seed)[1]] += 1
    maskable = (row.segments_T > 0) & ~SPECIAL[row.tokens_T]
    assert not counts[~maskable].any()
    p = 12 / maskable.sum()
    assert np.abs(counts[maskable] / 2000 - p).max() < 5 * np.sqrt(p * (1 - p) / 2000)


def test_all_mask_shares_mask_all():
    got, predict, _ = prepare(make_row(), mask_share=1.0, random_share=0.0)
    assert (got.tokens_BT[predict] == 4).all()


def words_of(row):
    """Sets of positions, piece by piece: a word begins at a piece that does not continue, or after a special token."""
    words, inside = [], False
    for t in range(len(row.tokens_T)):
        token = row.tokens_T[t]
        if row.segments_T[t] == 0 or SPECIAL[token]:
            inside = False
        elif inside and CONTINUES[token]:
            words[-1].add(t)
        else:
            words.append({t})
            inside = True
    return words


def test_whole_words_are_never_split_and_all_are_chosen_sometimes():
    row = make_row()
    words, seen = words_of(row), set()
    assert max(map(len, words)) >= 3
    for seed in range(400):
        chosen = set(prepare(row, seed, unit=Words())[1].tolist())
        for number, word in enumerate(words):
            assert not chosen & word or word <= chosen
            seen |= {number} if word <= chosen else set()
    assert len(seen) == len(words)


@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_rows_with_little_or_nothing_to_predict(unit):
    _, predict, _ = prepare(make_row(sizes=(3,)), unit=unit, mask_share=1.0, random_share=0.0)
    assert len(predict) <= 1 and (unit != Tokens() or predict.tolist() == [1])
    for sizes in ((), (2,)):
        got, predict, _ = prepare(make_row(sizes=sizes), unit=unit)
        assert len(predict) == 0 and got.targets.weights_BM.shape == (16,)


class Model:
    """Logits are two matrix products away from the tokens: enough to see which positions were read."""

    def __init__(self, seed=0, width=7):
        rng = np.random.default_rng(seed)
        self.embed_VD, self.out_DV = rng.normal(size=(V, width)), rng.normal(size=(width, V))
        self.calls = 0

    def encode(self, batch, key, at_BM):
        self.calls += 1
        x_BTD = jnp.asarray(self.embed_VD, jnp.float32)[batch.tokens_BT] * (1 + batch.positions_BT[..., None])
        return Encoded(x_BTD=at_places(x_BTD, at_BM))

    def predict_tokens(self, x_BMD):
        return x_BMD @ jnp.asarray(self.out_DV, jnp.float32)


def make_batch(rows, **kwargs):
    return stacked([prepare(row, seed, **kwargs)[0] for seed, row in enumerate(rows)])


class TooMany:
    """A unit that does not keep to the number asked for."""

    def choose(self, row, vocabulary, number, rng):
        return np.arange(1, number + 2)


def test_a_unit_is_any_object_with_choose_that_keeps_to_its_number():
    with pytest.raises(UserError, match=r"config\.objective\.unit=3: a unit has choose\(row"):
        objective(unit=3).validate("config.objective")
    objective(unit=TooMany()).validate("config.objective")
    with pytest.raises(UserError, match=r"TooMany\.choose gave \d+ positions, asked for \d+ at most"):
        objective(unit=TooMany()).prepare(make_row(), VOCABULARY, np.random.default_rng(0), train=True)


def test_the_loss_equals_the_sum_over_targets_in_float64():
    batch = make_batch(
        [make_row(seed=s, sizes=z) for s, z in enumerate([(40, 31), (101,), (), (2,), (9, 9, 9)])]
    )
    model, nats, right, count = Model(), 0.0, 0, 0
    asked = batch.targets
    for b in range(5):
        for m in range(16):
            if asked.weights_BM[b, m]:
                t = asked.places_BM[b, m]
                logits = model.embed_VD[batch.tokens_BT[b, t]] * (1 + batch.positions_BT[b, t]) @ model.out_DV
                nats += (
                    np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[asked.ids_BM[b, m]]
                )
                right += logits.argmax() == asked.ids_BM[b, m]
                count += 1
    loss = jax.jit(lambda: objective().loss(model, batch, None))()
    np.testing.assert_allclose(loss.terms["mlm"][0], nats, rtol=1e-5)
    assert float(loss.terms["mlm"][1]) == float(objective().weights(batch)["mlm"]) == count
    assert [float(x) for x in loss.measures["mlm_accuracy"]] == [right, count]
    assert loss.measures["mlm_loss"][0] == loss.terms["mlm"][0] and model.calls == 1


def test_unused_slots_count_nothing_even_when_the_model_is_infinite_there():
    batch = make_batch([make_row(sizes=())])
    model = types.SimpleNamespace(
        encode=lambda batch, key, at_BM: Encoded(x_BTD=jnp.ones((1, 16, 5))),
        predict_tokens=lambda x: jnp.full((1, 16, V), -jnp.inf),
    )
    loss = objective().loss(model, batch, None)
    assert [float(x) for x in loss.terms["mlm"]] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rate": 0.0}, r"objective.rate=0.0"),
        ({"rate": 1.5}, r"objective.rate=1.5: allowed is above 0 and below 1"),
        ({"mask_share": -0.1}, r"objective.mask_share=-0.1"),
        ({"mask_share": 0.8, "random_share": 0.3}, "add up to more than 1"),
    ],
)
def test_settings_that_cannot_work_are_user_errors(kwargs, message):
    with pytest.raises(UserError, match=message):
        objective(**kwargs).validate("objective")
    objective().validate("objective")
    objective(mask_share=0.9, random_share=0.1).validate("objective")
