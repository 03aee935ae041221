"""Claims: what wraps an objective gives the published loss and gradient, of every item by itself in a packed row."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.moved import Moved
from jaxlm.objectives import disturbed, mixup
from jaxlm.objectives.adversarial import FGM, PGD, FreeLB, Smart
from jaxlm.objectives.anchored import Mixout, Proximal
from jaxlm.objectives.class_loss import ClassLoss
from jaxlm.objectives.crf import CrfTagging
from jaxlm.objectives.mixup import Mixup
from jaxlm.objectives.multi_label import MultiLabel
from jaxlm.objectives.noise import GaussianNoise, Neftune
from jaxlm.objectives.predictions import Logits, Predictions
from jaxlm.objectives.r_drop import RDrop
from jaxlm.objectives.regression import Regression
from jaxlm.views import KeepStart
from tests.objectives import toy
from tests.objectives.toy import ALONE, OBJECTIVE, PACKED
from tests.views import programs

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
KEY = jax.random.key(3)
RTOL, ATOL = 2e-5, 2e-6


def kept(key):
    """The toy's dropout of this pass."""
    return torch.tensor(np.asarray(jax.random.bernoulli(key, 0.8, (toy.D,)), np.float64))


def leaves():
    return [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in toy.weights()]


def said(arrays, i, r=0.0, keep=None):
    """Logits of item i alone."""
    x = arrays[0][toy.ITEMS[i]] + r
    h = torch.tanh((x + x.mean(0)) @ arrays[1])[0]
    return (h if keep is None else h * keep) @ arrays[2]


def nats(logits, i):
    return -torch.log_softmax(logits, -1)[toy.LABELS[i]]


def apart(a, b):
    p, q = torch.log_softmax(a, -1), torch.log_softmax(b, -1)
    return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum()


def check(objective, expected, arrays, key=KEY):
    """Packed and one a row, against a torch scalar; `expected` is a mean over the items."""
    expected.backward()
    for groups in (PACKED, ALONE):
        loss, gradients = toy.loss_and_gradient(objective, groups, key)
        np.testing.assert_allclose(loss, expected.item(), rtol=RTOL)
        for got, array in zip(gradients, arrays, strict=True):
            np.testing.assert_allclose(got, array.grad.numpy(), rtol=RTOL, atol=ATOL)


def mean(of_item):
    return sum(of_item(i) for i in range(4)) / 4


def uphill(arrays, i, r, keep):
    """The gradient at r, of length 1."""
    r = r.clone().requires_grad_()
    (g,) = torch.autograd.grad(nats(said([a.detach() for a in arrays], i, r, keep), i), r)
    return g / g.norm()


def test_r_drop():
    arrays, keeps = leaves(), [kept(k) for k in jax.random.split(KEY)]

    def of_item(i):
        one, other = (said(arrays, i, keep=keep) for keep in keeps)
        return 0.5 * (nats(one, i) + nats(other, i)) + 0.7 * apart(one, other)

    check(RDrop(of=OBJECTIVE, alpha=0.7), mean(of_item), arrays)


def test_fgm():
    arrays, keep = leaves(), kept(KEY)

    def of_item(i):
        r = 0.4 * uphill(arrays, i, torch.zeros(len(toy.ITEMS[i]), toy.D, dtype=torch.float64), keep)
        return nats(said(arrays, i, keep=keep), i) + nats(said(arrays, i, r, keep), i)

    check(FGM(of=OBJECTIVE, epsilon=0.4), mean(of_item), arrays)


def climbed(arrays, i, r, keep, rate, radius):
    r = r + rate * uphill(arrays, i, r, keep)
    return r * min(1.0, radius / r.norm().item())


def test_pgd():
    arrays, keep = leaves(), kept(KEY)

    def of_item(i):
        r = torch.zeros(len(toy.ITEMS[i]), toy.D, dtype=torch.float64)
        for _ in range(3):
            r = climbed(arrays, i, r, keep, 0.3, 0.5)
        return nats(said(arrays, i, keep=keep), i) + nats(said(arrays, i, r, keep), i)

    check(PGD(of=OBJECTIVE, steps=3, rate=0.3, radius=0.5), mean(of_item), arrays)


@pytest.fixture
def same_draws(monkeypatch):
    """Noise that is the same wherever an item stands: a function of its tokens."""
    table = np.random.default_rng(5).uniform(-1, 1, (toy.V, toy.D)).astype(np.float32)

    def drawn(draw, key, like):
        rows = next(toy.batch(g) for g in (PACKED, ALONE) if len(g) == like.shape[0])
        return jnp.array(table)[rows.tokens_BT]

    monkeypatch.setattr(disturbed, "drawn", drawn)
    return lambda i: torch.tensor(table[toy.ITEMS[i]], dtype=torch.float64)


def test_freelb(same_draws):
    arrays, keep = leaves(), kept(KEY)

    def of_item(i):
        u = same_draws(i)
        r, total = 0.5 * u / np.sqrt(u.numel()), 0.0
        for _ in range(3):
            total = total + nats(said(arrays, i, r, keep), i)
            r = climbed(arrays, i, r, keep, 0.2, 0.35)
        return total / 3

    check(FreeLB(of=OBJECTIVE, steps=3, rate=0.2, radius=0.35, start=0.5), mean(of_item), arrays)


def test_smart(same_draws):
    arrays, keep = leaves(), kept(KEY)

    def of_item(i):
        fixed = [a.detach() for a in arrays]
        r = 0.1 * same_draws(i)
        for _ in range(2):
            r = r.requires_grad_()
            (g,) = torch.autograd.grad(apart(said(fixed, i, keep=keep), said(fixed, i, r, keep)), r)
            r = (r + 0.3 * g / g.abs().max()).clamp(-0.25, 0.25).detach()
        plain = said(arrays, i, keep=keep)
        return nats(plain, i) + 2.0 * apart(plain, said(arrays, i, r, keep))

    objective = Smart(of=OBJECTIVE, weight=2.0, steps=2, rate=0.3, epsilon=0.25, scale=0.1)
    check(objective, mean(of_item), arrays)


def test_neftune_is_scaled_by_the_length_of_the_item(same_draws):
    arrays, keep = leaves(), kept(KEY)
    r = lambda i: 2.0 * same_draws(i) / np.sqrt(same_draws(i).numel())
    expected = mean(lambda i: nats(said(arrays, i, r(i), keep), i))
    check(Neftune(of=OBJECTIVE, alpha=2.0), expected, arrays)


def test_gaussian_noise(same_draws):
    arrays, keep = leaves(), kept(KEY)
    expected = mean(lambda i: nats(said(arrays, i, 0.3 * same_draws(i), keep), i))
    check(GaussianNoise(of=OBJECTIVE, scale=0.3), expected, arrays)


def test_noise_is_as_large_as_it_says():
    x = jnp.zeros((2, 16, toy.D))
    rows = toy.batch(PACKED)
    u = Neftune(of=OBJECTIVE, alpha=5.0).noise(x, rows, KEY)
    for c, i in enumerate(PACKED[0]):
        own = np.asarray(u[0])[rows.segments_BT[0] == c + 1]
        bound = 5.0 / np.sqrt(len(toy.ITEMS[i]) * toy.D)
        assert 0.7 * bound < np.abs(own).max() <= bound
    assert not np.asarray(u)[rows.segments_BT == 0].any()


def test_mixup():
    arrays, keep = leaves(), kept(KEY)
    rows = toy.batch(PACKED)
    of_share, of_order = jax.random.split(jax.random.fold_in(KEY, 13))
    share = float(jax.random.beta(of_share, 0.6, 0.6))
    others = np.asarray(mixup.partners(of_order, rows.targets.weights_BC))
    slots = [b * 4 + c for b, group in enumerate(PACKED) for c, _ in enumerate(group)]
    partner = [slots.index(others.reshape(-1)[slot]) for slot in slots]
    assert sorted(partner) == [0, 1, 2, 3] != partner

    def of_item(i):
        features = []
        for j in (i, partner[i]):
            x = arrays[0][toy.ITEMS[j]]
            features.append(torch.tanh((x + x.mean(0)) @ arrays[1])[0] * keep)
        logits = (share * features[0] + (1 - share) * features[1]) @ arrays[2]
        return share * nats(logits, i) + (1 - share) * nats(logits, partner[i])

    expected = mean(of_item)
    expected.backward()
    loss, gradients = toy.loss_and_gradient(Mixup(of=OBJECTIVE, alpha=0.6), PACKED, KEY)
    np.testing.assert_allclose(loss, expected.item(), rtol=RTOL)
    for got, array in zip(gradients, arrays, strict=True):
        np.testing.assert_allclose(got, array.grad.numpy(), rtol=RTOL, atol=ATOL)


PLAIN = ClassLoss(of=OBJECTIVE, label_smoothing=0.0, gamma=0.0, class_weights="even", prior=0.0, counts=())
COUNTS = (60, 30, 10)


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({}, (1.0, 1.0, 1.0)),
        ({"label_smoothing": 0.1}, (1.0, 1.0, 1.0)),
        ({"label_smoothing": 0.2, "class_weights": (0.5, 2.0, 3.0)}, (0.5, 2.0, 3.0)),
        ({"class_weights": "inverse", "counts": COUNTS}, tuple(100 / (3 * n) for n in COUNTS)),
    ],
)
def test_smoothed_and_weighted_losses_are_torchs(changes, weight):
    arrays, keep = leaves(), kept(KEY)
    of_torch = torch.nn.CrossEntropyLoss(
        torch.tensor(weight, dtype=torch.float64), label_smoothing=changes.get("label_smoothing", 0.0)
    )
    logits = torch.stack([said(arrays, i, keep=keep) for i in range(4)])
    expected = of_torch(logits, torch.tensor(toy.LABELS))
    check(dataclasses.replace(PLAIN, **changes), expected, arrays)


def test_focal_loss():
    arrays, keep = leaves(), kept(KEY)

    def of_item(i):
        one = nats(said(arrays, i, keep=keep), i)
        return (1 - (-one).exp()) ** 2 * one

    check(dataclasses.replace(PLAIN, gamma=2.0), mean(of_item), arrays)


def test_logit_adjustment_changes_the_loss_and_not_the_answer():
    arrays, keep = leaves(), kept(KEY)
    shift = torch.log(torch.tensor(COUNTS, dtype=torch.float64) / 100)
    objective = dataclasses.replace(PLAIN, prior=1.0, counts=COUNTS)
    check(objective, mean(lambda i: nats(said(arrays, i, keep=keep) + shift, i)), arrays)
    rows, model = toy.batch(PACKED), toy.Toy(*map(jnp.asarray, toy.weights()))
    assert objective.loss(model, rows, None).measures == OBJECTIVE.loss(model, rows, None).measures


@pytest.mark.parametrize(
    "wrapper",
    [
        RDrop(of=OBJECTIVE, alpha=1.0),
        FGM(of=RDrop(of=Neftune(of=OBJECTIVE, alpha=1.0), alpha=1.0), epsilon=0.1),
        FreeLB(of=OBJECTIVE, steps=2, rate=0.1, radius=0.0, start=0.1),
        Smart(of=OBJECTIVE, weight=1.0, steps=1, rate=1e-3, epsilon=1e-5, scale=1e-5),
        Mixup(of=PLAIN, alpha=0.2),
    ],
)
def test_an_evaluation_is_that_of_the_objective_inside_and_training_is_finite(wrapper):
    rows, model = toy.batch(PACKED), toy.Toy(*map(jnp.asarray, toy.weights()))
    ours, plain = (jax.device_get(one.loss(model, rows, None)) for one in (wrapper, OBJECTIVE))
    assert ours.measures == plain.measures and ours.terms.keys() == plain.terms.keys()
    np.testing.assert_allclose(ours.terms["classes"], plain.terms["classes"], rtol=1e-6)
    loss, gradients = toy.loss_and_gradient(wrapper, PACKED, KEY)
    assert np.isfinite(loss) and all(np.isfinite(g).all() and g.any() for g in gradients)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        (RDrop(of=FGM(of=OBJECTIVE, epsilon=0.1), alpha=1.0), "Fix: FGM around RDrop"),
        (RDrop(of=OBJECTIVE, alpha=-1.0), "alpha=-1.0: allowed is 0 or more"),
        (PGD(of=OBJECTIVE, steps=0, rate=0.1, radius=1.0), "steps=0: allowed is 1 or more"),
        (
            Smart(of=Mixup(of=OBJECTIVE, alpha=1.0), weight=1.0, steps=1, rate=1.0, epsilon=1.0, scale=1.0),
            "Smart asks",
        ),
        (dataclasses.replace(PLAIN, label_smoothing=1.0), "allowed is below 1"),
        (dataclasses.replace(PLAIN, class_weights=(1.0, 0.0, 1.0)), 'allowed are "even", "inverse"'),
    ],
)
def test_what_cannot_work_is_refused(wrapper, message):
    with pytest.raises(UserError, match=message):
        wrapper.validate("config.objective")


def test_two_passes_over_yes_and_no_and_over_numbers_are_compared_as_such():
    a, b = np.random.default_rng(0).normal(size=(2, 2, 4, 3)).astype(np.float32)
    real = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], np.float32)
    said = lambda x: Predictions(
        {"classes": Logits(jnp.asarray(x), None, lambda model, x: x, jnp.asarray(real))}
    )
    p, q = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (a, b))
    kl = lambda p, q: p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    expected = (real * (0.5 * (kl(p, q) + kl(q, p))).mean(-1)).sum()
    found = MultiLabel.apart(None, said(a), said(b))["classes"]
    np.testing.assert_allclose(found, (expected, 4.0), rtol=1e-5)
    found = Regression.apart(None, said(a), said(b))["number"]
    np.testing.assert_allclose(found, ((real * (a - b)[..., 0] ** 2).sum(), 4.0), rtol=1e-5)
    assert CrfTagging.apart(None, said(a), said(b)) == CrfTagging.right_classes(None, None) == {}


def test_texts_that_an_encoder_decoder_judges_are_attacked_on_both_sides():
    config = dataclasses.replace(programs.T5_, vocab_size=toy.V)
    model = build(config, OBJECTIVE.heads(config))
    rows = toy.batch(PACKED)
    targets = dataclasses.replace(rows.targets, start_B=np.zeros(2, np.int32))
    rows = jax.tree.map(jnp.asarray, dataclasses.replace(rows, targets=targets))
    params = programs.perturbed(model.init(KEY))
    bound = jax.tree.map(jnp.asarray, params)
    loss = lambda params: FGM(of=OBJECTIVE, epsilon=0.5).loss(model.bind(params), rows, KEY)
    terms = jax.jit(loss)(bound).terms
    assert terms["classes_adversarial"][0] > terms["classes"][0]


def test_weights_that_do_not_fit_the_classes_are_refused():
    with pytest.raises(UserError, match="2 weights or counts, and there are 3 classes"):
        toy.loss_and_gradient(dataclasses.replace(PLAIN, class_weights=(1.0, 2.0)), PACKED, KEY)
    with pytest.raises(UserError, match="the labels were not counted"):
        dataclasses.replace(PLAIN, class_weights="inverse").counted({"a": 3, "b": 2})


def beside(groups, objective, key, arrays, others):
    """Loss and gradient of `arrays`, with `others` as what they were."""
    rows = jax.tree.map(jnp.asarray, toy.batch(groups))

    def total(arrays):
        model = toy.Toy(*(Moved(now, first) for now, first in zip(arrays, others, strict=True)))
        whole = objective.weights(rows)
        return sum(s / whole[name] for name, (s, _) in objective.loss(model, rows, key).terms.items())

    return jax.jit(jax.value_and_grad(total))(arrays)


def test_the_proximal_term_of_smart_is_the_divergence_from_the_average():
    arrays, keep = leaves(), kept(KEY)
    others = toy.weights(seed=1)
    average = [torch.tensor(a, dtype=torch.float64) for a in others]
    term = lambda i: apart(said(arrays, i, keep=keep), said(average, i))
    expected = mean(lambda i: nats(said(arrays, i, keep=keep), i) + 0.6 * term(i))
    expected.backward()
    objective = Proximal(of=OBJECTIVE, weight=0.6)
    for groups in (PACKED, ALONE):
        loss, gradients = beside(groups, objective, KEY, toy.weights(), others)
        np.testing.assert_allclose(loss, expected.item(), rtol=RTOL)
        for got, array in zip(gradients, arrays, strict=True):
            np.testing.assert_allclose(got, array.grad.numpy(), rtol=RTOL, atol=ATOL)
    plain, _ = beside(PACKED, objective, None, toy.weights(), others)
    np.testing.assert_allclose(plain, mean(lambda i: nats(said(arrays, i), i)).item(), rtol=RTOL)


def mixed_by_hand(rate, key, others):
    """The masks of `Mixout`, applied in float64."""
    keys = jax.random.split(jax.random.fold_in(key, 13), 3)
    masks = [jax.random.bernoulli(k, rate, a.shape) for k, a in zip(keys, others, strict=True)]
    starts = [torch.tensor(a, dtype=torch.float64) for a in others]
    mix = lambda w, u, m: torch.where(torch.tensor(np.array(m)), u, (w - rate * u) / (1 - rate))
    return lambda arrays: [mix(*three) for three in zip(arrays, starts, masks, strict=True)]


def test_mixout_is_the_published_mixture():
    arrays, keep, others = leaves(), kept(KEY), toy.weights(seed=1)
    now = mixed_by_hand(0.7, KEY, others)(arrays)
    expected = mean(lambda i: nats(said(now, i, keep=keep), i))
    expected.backward()
    for groups in (PACKED, ALONE):
        loss, gradients = beside(groups, Mixout(of=OBJECTIVE, rate=0.7), KEY, toy.weights(), others)
        np.testing.assert_allclose(loss, expected.item(), rtol=RTOL)
        for got, array in zip(gradients, arrays, strict=True):
            np.testing.assert_allclose(got, array.grad.numpy(), rtol=RTOL, atol=ATOL)


def test_the_mean_of_mixed_weights_is_the_weight():
    now, first = (np.asarray(toy.weights(seed)[1]) for seed in (0, 1))
    mixout = Mixout(of=OBJECTIVE, rate=0.4)
    of = lambda key: mixout._mixed({"w": Moved(jnp.asarray(now), jnp.asarray(first))}, key)["w"].now
    drawn = np.asarray(jax.vmap(of)(jax.random.split(KEY, 4000)), np.float64)
    error = drawn.std(axis=0) / 4000**0.5
    assert (np.abs(drawn.mean(axis=0) - now) < 5 * error + 1e-6).all()
    assert np.mean(drawn == first) == pytest.approx(0.4, abs=0.01)
    whole = {"heads": {"w": Moved(jnp.asarray(now), jnp.asarray(first))}}
    assert mixout._mixed(whole, KEY)["heads"]["w"].now is whole["heads"]["w"].now


def test_what_has_nothing_to_stay_near_is_refused():
    with pytest.raises(UserError, match="rate=1.0: allowed is 0 to below 1"):
        Mixout(of=OBJECTIVE, rate=1.0).validate("config.objective")
    with pytest.raises(UserError, match=r"nothing keeps them. Fix: \"--config.view=\(KeepStart\(\),\)\""):
        Mixout(of=OBJECTIVE, rate=0.5).check_view((), "config.view")
    run = programs.run("bert")
    run.objective, run.ema_decay = Proximal(of=run.objective, weight=1.0), 0.0
    with pytest.raises(UserError, match="keeps none. Fix: --config.ema_decay=0.999"):
        programs.program(run)
    run.ema_decay, run.view = 0.99, (KeepStart(),)
    with pytest.raises(UserError, match="which a view does not keep"):
        programs.program(run)


def test_a_step_compares_with_the_average_of_its_state():
    """At the first step both are the same weights."""
    run = programs.run("bert")
    run.ema_decay, run.optimizer.schedule.peak = 0.9, 0.3
    run.objective = Proximal(of=run.objective, weight=1.0)
    made = programs.program(run)
    _, _, means = programs.steps(made, made.parameters(), 4, "bert")
    assert abs(means[0]["mlm_near"]) < 1e-6 and means[3]["mlm_near"] > 1e-4
