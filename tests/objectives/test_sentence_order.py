import jax
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.objectives.masked_lm import MaskedLM, Tokens
from jaxlm.objectives.next_sentence import NextSentence
from jaxlm.objectives.sentence_order import SentenceOrder
from jaxlm.objectives.sentence_pairs import PairTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets

B, T, M, C, V = 3, 17, 5, 2, 53


def masked() -> MaskedLM:
    return MaskedLM(rate=0.2, evaluation_rate=0.15, mask_share=0.8, random_share=0.1, unit=Tokens())


def order(**settings) -> SentenceOrder:
    common = {"short_share": 0.1, "swapped_share": 0.5, "duplicates": 10, "pairs_per_row": C}
    return SentenceOrder(**{"masked_lm": masked(), **common, **settings})


def bert() -> Bert:
    return Bert(
        vocab_size=V,
        hidden=24,
        layers=1,
        heads=4,
        mlp=40,
        max_positions=T,
        types=2,
        dropout=0.0,
        attention_dropout=0.0,
        norm_epsilon=1e-12,
        activation="gelu",
        init_scale=0.2,
        position_init="normal",
    )


def batch() -> Batch:
    rng = np.random.default_rng(0)
    ids = lambda top, *shape: rng.integers(0, top, shape).astype(np.int32)
    ones = lambda *shape: np.ones(shape, np.float32)
    return Batch(
        tokens_BT=ids(V, B, T),
        segments_BT=np.repeat([[1] * 9 + [2] * 8], B, axis=0).astype(np.int32),
        positions_BT=ids(T, B, T),
        types_BT=ids(2, B, T),
        targets=PairTargets(
            tokens=TokenTargets(places_BM=ids(T, B, M), ids_BM=ids(V, B, M), weights_BM=ones(B, M)),
            items=ItemTargets(
                first_BC=np.repeat([[0, 9]], B, axis=0).astype(np.int32),
                labels_BC=ids(2, B, C),
                weights_BC=ones(B, C),
            ),
        ),
    )


def test_sentence_order_is_next_sentence_with_other_pairs_and_names():
    nsp = NextSentence(masked_lm=masked(), short_share=0.1, random_share=0.5, duplicates=10, pairs_per_row=C)
    model = build(bert(), {**order().heads(bert()), **nsp.heads(bert())})
    params = jax.jit(model.init)(jax.random.key(0))
    params["heads"]["sop"] = params["heads"]["nsp"]
    module = model.bind(params)
    ours, theirs = jax.jit(lambda b: (order().loss(module, b, None), nsp.loss(module, b, None)))(batch())
    assert set(ours.terms) == set(order().weights(batch())) == {"mlm", "sop"}
    assert set(ours.measures) == {"mlm_loss", "mlm_accuracy", "sop_loss", "sop_accuracy"}
    for name in ours.measures:
        assert ours.measures[name] == theirs.measures[name.replace("sop", "nsp")]
    assert (order().negatives, order().negative_share) == ("swapped", 0.5)
    assert (nsp.negatives, nsp.negative_share) == ("random", 0.5)


def test_the_question_has_a_head_of_its_own_name():
    assert list(order().heads(bert())) == ["tokens", "pooler", "sop"]


@pytest.mark.parametrize("name", ["swapped_share", "short_share"])
def test_shares_outside_0_to_1_are_user_errors(name):
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(UserError, match=f"objective.{name}="):
            order(**{name: value}).validate("objective")
    order().validate("objective")
