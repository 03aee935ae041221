import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch, Row, Vocabulary, stacked
from jaxlm.errors import UserError
from jaxlm.models.bert import Bert
from jaxlm.models.build import build
from jaxlm.models.encoded import Encoded
from jaxlm.models.heads import Pooler
from jaxlm.objectives import embeddings
from jaxlm.objectives.contrastive import DropoutContrastive, PairContrastive
from jaxlm.objectives.predictions import Predictions

torch = pytest.importorskip("torch")

V, T = 61, 29
NO = np.zeros(V, bool)
VOCABULARY = Vocabulary(size=V, pad=0, unk=1, cls=2, sep=3, mask=4, special_V=NO, continues_V=NO)
COMMON = {"temperature": 0.05, "max_tokens": 9, "items_per_row": 3}


def dropout_objective(**settings) -> DropoutContrastive:
    return DropoutContrastive(**{**COMMON, "pooling": "cls", "text": "sentences", **settings})


def pair_objective(**settings) -> PairContrastive:
    return PairContrastive(**{**COMMON, "pooling": "cls", "negatives": "hard", **settings})


def bert(**settings) -> Bert:
    sizes = {
        "hidden": 24,
        "layers": 2,
        "heads": 4,
        "mlp": 40,
        "max_positions": 32,
        "types": 2,
        "dropout": 0.0,
    }
    rest = {"norm_epsilon": 1e-12, "activation": "gelu", "init_scale": 0.2, "position_init": "normal"}
    return Bert(**{"vocab_size": V, "attention_dropout": 0.0, **sizes, **rest, **settings})


POOLER = {"pooler": Pooler()}


def item(rng, texts: int) -> list[np.ndarray]:
    return [np.concatenate([[2], rng.integers(5, V, rng.integers(1, 4)), [3]]) for _ in range(texts)]


def row(items: list[list[np.ndarray]], slots: int = 3, length: int = T) -> Row:
    """Items one after another, token type = number of the text, as data.texts makes them."""
    tokens, segments, positions, types = (np.zeros(length, np.int32) for _ in range(4))
    first, at = np.zeros(slots, np.int32), 0
    for c, texts in enumerate(items):
        first[c] = at
        start = at
        for number, text in enumerate(texts):
            span = slice(at, at + len(text))
            tokens[span], segments[span], types[span] = text, c + 1, number
            positions[span] = np.arange(at - start, at - start + len(text))
            at = span.stop
    return Row(
        tokens_T=tokens,
        segments_T=segments,
        positions_T=positions,
        texts_T=types,
        first_C=first,
    )


def batch(objective, rows) -> Batch:
    return stacked([objective.prepare(r, VOCABULARY, np.random.default_rng(0), train=True) for r in rows])


def score(objective, e_IXD, real_IX):
    outputs = {"embeddings": jnp.asarray(e_IXD), "real": jnp.asarray(real_IX)}
    return objective.score(Predictions(outputs), None)


def torch_loss(anchors, positives, negatives, temperature):
    """SimCSE's own formulation: cosine_similarity of all pairs, CrossEntropyLoss over arange."""
    cosine = lambda a, b: torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1) / temperature
    logits = torch.cat([cosine(anchors, side) for side in (positives, negatives) if side is not None], dim=1)
    labels = torch.arange(len(anchors))
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum"), logits.argmax(1) == labels


@pytest.mark.parametrize("texts", [2, 3])
def test_loss_and_gradient_equal_torch_and_padding_slots_count_nothing(texts):
    rng, number = np.random.default_rng(3), 11
    e = rng.normal(size=(number, texts, 7)).astype(np.float32)
    real = np.ones((number, texts), np.float32)
    real[[2, 6, 10]] = 0.0
    kept = np.flatnonzero(real[:, 0])
    objective = pair_objective(negatives="hard" if texts == 3 else "in_batch", temperature=0.3)

    def loss(e):
        found = score(objective, e, real)
        return found.terms["contrastive"][0], found

    (total, found), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(jnp.asarray(e))
    theirs = torch.tensor(e[kept], dtype=torch.float64, requires_grad=True)
    expected, right = torch_loss(theirs[:, 0], theirs[:, 1], theirs[:, 2] if texts == 3 else None, 0.3)
    expected.backward()
    np.testing.assert_allclose(total, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient[kept], theirs.grad.numpy(), atol=2e-5)
    assert not np.asarray(gradient)[[2, 6, 10]].any()
    assert [float(x) for x in found.measures["contrastive_accuracy"]] == [int(right.sum()), len(kept)]
    assert float(found.terms["contrastive"][1]) == len(kept)


def test_alignment_and_uniformity_are_those_of_wang_and_isola():
    rng = np.random.default_rng(5)
    e = rng.normal(size=(9, 2, 5)).astype(np.float32)
    real = np.ones((9, 2), np.float32)
    real[4] = 0.0
    objective = pair_objective(negatives="in_batch")
    found = jax.jit(lambda e: score(objective, e, real))(e).measures
    x = torch.nn.functional.normalize(torch.tensor(np.delete(e, 4, axis=0), dtype=torch.float64), dim=-1)
    align = (x[:, 0] - x[:, 1]).norm(dim=1).pow(2).mean()
    uniform = torch.pdist(x[:, 0]).pow(2).mul(-2).exp().mean().log()
    mean = lambda name: float(found[name][0]) / float(found[name][1])
    np.testing.assert_allclose(mean("alignment"), align.item(), rtol=1e-5)
    np.testing.assert_allclose(mean("uniformity"), uniform.item(), rtol=1e-5)


def test_one_text_alone_or_none_has_no_uniformity_and_finite_gradients():
    objective = pair_objective(negatives="in_batch")

    @jax.jit
    def scored(e, real):
        def total(e):
            found = score(objective, e, real)
            return found.terms["contrastive"][0], found

        return jax.grad(total, has_aux=True)(e)

    for number in (0, 1):
        real = jnp.zeros((3, 2)).at[:number].set(1.0)
        e = jnp.zeros((3, 2, 4)).at[:number].set(1.0)
        gradient, found = scored(e, real)
        assert float(found.measures["uniformity"][1]) == 0.0
        assert float(found.terms["contrastive"][1]) == number
        assert np.isfinite(gradient).all()


def test_the_texts_of_an_item_become_segments_of_their_own():
    rng = np.random.default_rng(0)
    items = [item(rng, 3), item(rng, 3)]
    made = pair_objective().prepare(row(items), VOCABULARY, rng, train=True)
    assert made.segments_BT.max() <= made.most_segments == made.targets.first_BC.size
    texts = [text for texts in items for text in texts]
    sizes = [len(text) for text in texts]
    used = sum(sizes)
    assert made.segments_BT[:used].tolist() == np.repeat(np.arange(6) + 1, sizes).tolist()
    assert made.positions_BT[:used].tolist() == [i for size in sizes for i in range(size)]
    assert not made.segments_BT[used:].any() and not made.types_BT.any()
    assert made.targets.first_BC.tolist() == [*np.cumsum([0, *sizes[:-1]]).tolist(), 0, 0, 0]
    assert made.targets.labels_BC.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 0]
    assert made.targets.weights_BC.tolist() == [1.0] * 6 + [0.0] * 3


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls_mlp"])
def test_packed_equals_unpacked_in_loss_and_gradient(pooling):
    rng = np.random.default_rng(1)
    items = [item(rng, 2) for _ in range(6)]
    objective = pair_objective(negatives="in_batch", pooling=pooling)
    packed = batch(objective, [row(items[:3]), row(items[3:5]), row([]), row(items[5:])])
    alone = batch(objective, [row([one], slots=1, length=11) for one in items])
    model = build(bert(), POOLER)
    params = jax.jit(model.init)(jax.random.key(2))
    values = []
    for b in (packed, alone):
        assert float(objective.weights(b)["contrastive"]) == 6
        loss = lambda p, b=b: objective.loss(model.bind(p), b, None).terms["contrastive"][0]
        values.append(jax.jit(jax.value_and_grad(loss))(params))
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-5)
    for x, y in zip(jax.tree.leaves(values[0][1]), jax.tree.leaves(values[1][1]), strict=True):
        np.testing.assert_allclose(x, y, atol=3e-4 * max(1.0, float(np.abs(y).max())))


def test_pooling_takes_the_first_token_the_mean_of_the_item_or_the_pooler():
    rng = np.random.default_rng(4)
    b = batch(dropout_objective(), [row([item(rng, 1), item(rng, 1)])])
    x_BTD = rng.normal(size=(1, T, 24)).astype(np.float32)
    module = build(bert(), POOLER).bind(jax.jit(build(bert(), POOLER).init)(jax.random.key(0)))
    second = b.segments_BT[0] == 2
    first_BC = b.targets.first_BC
    start = int(first_BC[0, 1])
    module.encode = lambda batch, key, at_BM: Encoded(
        x_BTD=jnp.asarray(x_BTD if at_BM is None else x_BTD[:, at_BM[0]])
    )
    pool = lambda how: np.asarray(embeddings.of_items(module, b, None, first_BC, how)[1])[0]
    np.testing.assert_allclose(pool("mean")[1], x_BTD[0][second].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(pool("cls")[1], x_BTD[0, start])
    np.testing.assert_allclose(pool("cls_mlp")[1], module.pool(x_BTD)[0, start], rtol=1e-5)
    assert not pool("mean")[2].any(), "an empty slot"


def test_two_dropouts_make_the_two_views_and_evaluation_repeats_its_own():
    rng = np.random.default_rng(6)
    objective = dropout_objective()
    b = batch(objective, [row([item(rng, 1) for _ in range(3)]) for _ in range(3)])
    model = build(bert(dropout=0.3), POOLER)
    module = model.bind(jax.jit(model.init)(jax.random.key(1)))
    loss = jax.jit(lambda b, key: objective.loss(module, b, key))
    one, again, other = (loss(b, jax.random.key(k)).measures for k in (1, 1, 2))
    mean = lambda measures, name: float(measures[name][0] / measures[name][1])
    assert mean(one, "alignment") > 0.01
    assert mean(one, "alignment") == mean(again, "alignment") != mean(other, "alignment")
    evaluation = jax.jit(lambda b: objective.loss(module, b, None))
    evaluated = [evaluation(b).measures for _ in range(2)]
    assert mean(evaluated[0], "alignment") == mean(evaluated[1], "alignment") > 0.01


def test_a_model_without_dropout_is_refused_with_the_fix():
    with pytest.raises(UserError, match=r"config.model.dropout=0.0 .*config.model.dropout=0.1"):
        dropout_objective().check_model(bert(), "config.model")
    dropout_objective().check_model(bert(attention_dropout=0.1), "config.model")
    for pooling in ("cls", "cls_mlp"):
        pair_objective(pooling=pooling).check_model(bert(), "config.model")


def test_micro_batches_are_refused_and_so_are_settings_that_cannot_work():
    with pytest.raises(UserError, match=r"config.accumulate=2.*Fix: --config.accumulate=1"):
        dropout_objective().check_batch(8, 2, "config")
    dropout_objective().check_batch(8, 1, "config")
    for name, value in (
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("max_tokens", 0),
        ("items_per_row", 0),
    ):
        with pytest.raises(UserError, match=f"objective.{name}="):
            pair_objective(**{name: value}).validate("objective")
    pair_objective().validate("objective")
