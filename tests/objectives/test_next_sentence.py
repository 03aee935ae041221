import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Row, Vocabulary, stacked
from jaxlm.data.rows.pairs import NEGATIVE
from jaxlm.errors import UserError
from jaxlm.models.encoded import Encoded
from jaxlm.models.masks import at_places
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.next_sentence import NextSentence

V = 41
SPECIAL = np.zeros(V, bool)
SPECIAL[[0, 2, 3, 4]] = True
VOCABULARY = Vocabulary(
    size=V, pad=0, unk=1, cls=2, sep=3, mask=4, special_V=SPECIAL, continues_V=np.zeros(V, bool)
)


def objective(**kwargs):
    masked = MaskedLM(rate=0.2, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())
    settings = {"short_share": 0.1, "random_share": 0.5, "duplicates": 10, "pairs_per_row": 3}
    return NextSentence(masked_lm=masked, **{**settings, **kwargs})


def make_row(labels, seed):
    rng, length = np.random.default_rng(seed), 53
    tokens, segments, positions, kinds = (np.zeros(length, np.int32) for _ in range(4))
    first, slots, at = np.zeros(3, np.int32), np.full(3, -1, np.int32), 0
    for c, label in enumerate(labels):
        a, b = rng.integers(2, 6, 2)
        size = a + b + 3
        tokens[at : at + size] = [2, *rng.integers(5, V, a), 3, *rng.integers(5, V, b), 3]
        segments[at : at + size], positions[at : at + size] = c + 1, np.arange(size)
        kinds[at + a + 2 : at + size] = 1
        first[c], slots[c] = at, label
        at += size
    return Row(
        tokens_T=tokens,
        segments_T=segments,
        positions_T=positions,
        texts_T=kinds,
        first_C=first,
        columns={NEGATIVE: slots},
    )


def make_batch(seed=0):
    rows = [make_row(labels, s) for s, labels in enumerate([(0, 1, 1), (1,), (), (0, 0)])]
    return stacked(
        [objective().prepare(r, VOCABULARY, np.random.default_rng(s), train=True) for s, r in enumerate(rows)]
    )


class Model:
    def __init__(self):
        rng = np.random.default_rng(0)
        self.embed_TD, self.pair_D2, self.out_DV = (
            rng.normal(size=(53, 5)),
            rng.normal(size=(5, 2)),
            np.ones((5, V)),
        )
        self.calls = []

    def encode(self, batch, key, at_BM):
        self.calls.append(key)
        x_BTD = jnp.broadcast_to(jnp.asarray(self.embed_TD, jnp.float32), (*batch.tokens_BT.shape, 5))
        x_BTD = x_BTD * (1 + jnp.arange(len(batch.tokens_BT)))[:, None, None]
        return Encoded(x_BTD=at_places(x_BTD, at_BM))

    def predict_tokens(self, x_BMD):
        return x_BMD @ jnp.asarray(self.out_DV, jnp.float32)

    def classify_pair(self, x_BCD, question):
        assert question == "nsp"
        return x_BCD @ jnp.asarray(self.pair_D2, jnp.float32)


def test_both_losses_come_from_one_pass_and_equal_the_sums_in_float64():
    batch, model, key = make_batch(), Model(), jax.random.key(3)
    loss = objective().loss(model, batch, key)
    assert model.calls == [key]
    nats, right = 0.0, 0
    for b, labels in enumerate([(0, 1, 1), (1,), (), (0, 0)]):
        for c, label in enumerate(labels):
            logits = model.embed_TD[batch.targets.items.first_BC[b, c]] * (1 + b) @ model.pair_D2
            nats += np.logaddexp(*logits) - logits[label]
            right += logits.argmax() == label
    np.testing.assert_allclose(loss.terms["nsp"][0], nats, rtol=1e-5)
    assert [float(x) for x in loss.measures["nsp_accuracy"]] == [right, 6]
    alone = objective().masked_lm.loss(Model(), batch, key)
    assert loss.terms["mlm"] == alone.terms["mlm"]
    assert set(loss.measures) == {"mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}
    assert {k: float(v) for k, v in objective().weights(batch).items()} == {
        name: float(pair[1]) for name, pair in loss.terms.items()
    }


def test_labels_and_weights_follow_the_pairs():
    batch = make_batch()
    items = batch.targets.items
    assert items.labels_BC.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert items.weights_BC.tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert (batch.tokens_BT[np.arange(4)[:, None], items.first_BC][items.weights_BC > 0] == 2).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"short_share": 1.1}, "objective.short_share=1.1"),
        ({"duplicates": 0}, "objective.duplicates=0"),
        ({"pairs_per_row": 0}, "objective.pairs_per_row=0"),
    ],
)
def test_settings_that_cannot_work_are_user_errors(kwargs, message):
    with pytest.raises(UserError, match=message):
        objective(**kwargs).validate("objective")
    objective().validate("objective")
