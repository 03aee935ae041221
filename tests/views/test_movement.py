"""Claims about pruning while training: how many weights go, which, what no optimizer may do to scores, meshes, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.errors import UserError
from jaxlm.models.paths import flatten, nest
from jaxlm.optim import optimizers
from jaxlm.optim.around import LayerDecay, RateGroups
from jaxlm.optim.horizon import Horizon
from jaxlm.optim.schedules import WarmupLinear
from jaxlm.views import Movement
from jaxlm.views.beside import MATRICES
from jaxlm.views.movement import kept
from jaxlm.views.view import Chain, Facts
from tests.views.programs import program, run, steps

HALF = Movement(weights=MATRICES, share=0.5, by="movement", begin=0.0, end=0.05)  # within 3 of 60 steps
KNOWN = {
    path: Facts(("layers", "embed", "mlp"), 1)
    for path in ("blocks/mlp/w_in", "blocks/mlp/w_out", "blocks/attention/wq")
}
CONSTANT = WarmupLinear(peak=0.1, warmup="0 steps", end=0.1)
COMMON = {"schedule": CONSTANT, "weight_decay": 0.5, "clip_norm": 0.0}
MOMENTS = {**COMMON, "b1": 0.9, "b2": 0.99, "epsilon": 1e-8}
PLAIN = optimizers.Sgd(**{**COMMON, "weight_decay": 0.0}, momentum=0.0)
OPTIMIZERS = {
    "sgd": optimizers.Sgd(**COMMON, momentum=0.9),
    "adamw": optimizers.AdamW(**MOMENTS),
    "lamb": optimizers.Lamb(**MOMENTS),
    "lion": optimizers.Lion(**COMMON, b1=0.9, b2=0.99),
    "muon": optimizers.Muon(**MOMENTS, momentum=0.95, iterations=5, update_rms=0.2, rest_schedule=CONSTANT),
    "adafactor": optimizers.Adafactor(
        **COMMON,
        decay_rate=0.8,
        epsilon=1e-30,
        update_clip=1.0,
        parameter_floor=1e-3,
        momentum=0.0,
        factor_from=2,
    ),
    "layer decay": LayerDecay(of=optimizers.AdamW(**MOMENTS), decay=0.5, first=1),
}


def expected(weight, scores, share: float) -> np.ndarray:
    """Bool: what stays of a stack of matrices [X, N], in numpy."""
    place = np.broadcast_to(np.arange(weight.shape[-1]), weight.shape)
    stays = np.ones(weight.shape, bool)
    for row in range(len(weight)):
        order = np.lexsort((place[row], np.abs(weight[row]), scores[row]))
        stays[row, order[: round(share * weight.shape[-1])]] = False
    return stays


@pytest.mark.parametrize("share", [0.0, 1 / 60, 0.3, 0.999, 1.0])
def test_exactly_the_share_of_each_matrix_goes_whatever_is_equal(share):
    rng = np.random.default_rng(0)
    weight = rng.integers(-3, 4, (3, 60)).astype(np.float32) * np.float32(0.1)
    weight[1] = 0.0  # of equal weights
    scores = rng.integers(-2, 3, (3, 60)).astype(np.float32) * np.float32(1e-20)
    scores[2], scores[:, ::7] = 0.0, -0.0  # and equal scores
    gone = jnp.full((3, 1), share, jnp.float32)
    shaped = jnp.asarray(weight.reshape(3, 4, 5, 3))
    for given in (scores, None):
        found = np.asarray(jax.jit(kept)(shaped, given, gone)).reshape(3, 60) != 0
        of = np.zeros_like(weight) if given is None else given
        np.testing.assert_array_equal(found, expected(weight, of, share))
        assert ((~found).sum(1) == round(share * 60)).all()


@pytest.mark.parametrize("by", ["movement", "magnitude"])
def test_the_schedule_is_the_published_one(by):
    """Equation 1 of 1710.01878, in float64, of every matrix of every layer; what is not named stays whole."""
    view = Chain((Movement(weights=".*mlp/w", share=0.9, by=by, begin=0.1, end=0.4),))
    rng = np.random.default_rng(0)
    params = {path: rng.normal(size=(2, 24, 40)).astype(np.float32) for path in KNOWN}
    trained, frozen = view.split(nest(params), KNOWN, jax.random.key(0))
    optimizer = view.optimizer(PLAIN.make(Horizon(((20, 1),)), view.axes(KNOWN)), 20)
    merge, update = jax.jit(view.merge), jax.jit(optimizer.update)
    state, seen = optimizer.init(trained), []
    for _ in range(11):
        merged = flatten(merge(trained, frozen))
        seen.append({path: (np.asarray(array) == 0).sum((1, 2)).tolist() for path, array in merged.items()})
        slopes = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), trained)
        updates, state = update(slopes, state, trained)
        trained = jax.tree.map(jnp.add, trained, updates)
    share = lambda t: 0.0 if t <= 2 else 0.9 - 0.9 * (1 - min((t - 2) / 6, 1)) ** 3
    for step, found in enumerate(seen):
        assert found.pop("blocks/attention/wq") == [0, 0]
        assert found == dict.fromkeys(found, [round(share(step) * 24 * 40)] * 2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_optimizer_decays_scores_or_moves_shares(name):
    view, rng = Chain((HALF,)), np.random.default_rng(0)
    normal = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
    trained, _ = view.split(nest({path: jnp.zeros((2, 6, 5)) for path in KNOWN}), KNOWN, jax.random.key(0))
    params = jax.tree.map(normal, trained)
    inner = OPTIMIZERS[name].make(Horizon(((60, 1),)), view.axes(KNOWN))
    optimizer = view.optimizer(inner, 60)

    @jax.jit
    def first(params):
        still = jax.tree.map(jnp.zeros_like, params)
        return optimizer.update(still, optimizer.init(params), params)[0]

    for path, update in flatten(first(params)).items():
        if path.endswith("_scores"):
            assert not np.any(update), path
        elif path.endswith("_gone"):
            after = flatten(params)[path] + update
            np.testing.assert_allclose(after, 0.5 * (1 - (2 / 3) ** 3), rtol=1e-6)
        else:
            assert np.any(update), "weights decay"


def test_another_rate_of_the_scores_is_the_same_pruning():
    found = []
    for rate in (1.0, 64.0):
        adam = optimizers.AdamW(**MOMENTS | {"weight_decay": 0.0})
        around = RateGroups(of=adam, rates=((".*_scores", rate),))
        made = program(dataclasses.replace(run("bert", HALF), optimizer=around))
        state, frozen, _ = steps(made, jax.device_get(made.parameters()), 4, "bert")
        found.append(flatten(made.view.merge(state.params, frozen)))
    for path, array in found[0].items():
        np.testing.assert_array_equal(found[1][path], array, err_msg=path)
    assert (np.asarray(found[0]["blocks/mlp/w_in"]) == 0).mean() == 0.5


def test_eight_devices_prune_what_one_does():
    base = dataclasses.replace(run("bert", HALF), optimizer=PLAIN)
    one = program(base)
    params = jax.device_get(one.parameters())
    first, frozen, losses = steps(one, params, 4, "bert")
    several = program(base, data=2, fsdp=2, tensor=2)
    state, held, means = steps(several, params, 4, "bert")
    split = flatten(state.params)["blocks/mlp/w_in_scores"].sharding.spec
    assert "fsdp" in split
    ours = flatten(one.view.merge(first.params, frozen))
    theirs = flatten(jax.jit(several.view.merge)(state.params, held))
    for path, array in ours.items():
        np.testing.assert_allclose(theirs[path], array, atol=1e-5, rtol=0, err_msg=path)
        if path.startswith("blocks") and "/w" in path:
            assert ((np.asarray(theirs[path]) == 0).reshape(2, -1).mean(1) == 0.5).all()
    assert means[-1]["loss"] == pytest.approx(losses[-1]["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 1.0}, r"view\[0\].share=1.0: must be above 0 and below 1. Fix: 0.8 leaves a fifth"),
        ({"begin": 0.7, "end": 0.7}, "begin=0.7 and end=0.7 are shares of the run.*Fix: begin=0.1, end=0.7"),
        ({"weights": "("}, r"view\[0\].weights='\(' is not a regular expression"),
        ({"weights": "nothing"}, "weights='nothing' matches no matrix. There are: .*blocks/mlp/w_in"),
    ],
)
def test_bad_settings_are_named(change, message):
    made = run("bert", dataclasses.replace(HALF, **change))
    with pytest.raises(UserError, match=message):
        made.view[0].validate("config.view[0]")
        program(made)


@pytest.mark.parametrize("average", [{"ema_decay": 0.9}, {"ema_decay": 0.0, "average_from": "80%"}])
def test_an_average_of_the_weights_is_refused(average):
    message = (
        r"view\[0\]: an average of the weights of Movement .*Fix: --config.ema_decay=0 --config.average_from="
    )
    with pytest.raises(UserError, match=message):
        dataclasses.replace(run("bert", HALF), **average).validate()
