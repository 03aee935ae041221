"""Movement pruning against PyTorch: a masked linear layer with a straight-through mask, as the published code has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models.paths import flatten, nest
from jaxlm.optim.horizon import Horizon
from jaxlm.optim.optimizers import AdamW
from jaxlm.optim.schedules import WarmupLinear
from jaxlm.views import Movement
from jaxlm.views.view import Chain, Facts

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")

PATH, KNOWN = "blocks/mlp/w_in", {"blocks/mlp/w_in": Facts(("layers", "embed", "mlp"), 1)}
LAYERS, INPUTS, OUTPUTS, ROWS, STEPS, SHARE, DECAY = 2, 6, 5, 9, 30, 0.7, 0.1


class Mask(torch.autograd.Function):
    """1 for all but the `gone` least scores; the gradient passes as if the mask were the scores."""

    @staticmethod
    def forward(ctx, scores, gone):
        mask = torch.ones(scores.numel())
        mask[torch.argsort(scores.flatten(), stable=True)[:gone]] = 0
        return mask.view_as(scores)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def share_at(step: int) -> float:
    """Equation 1 of 1710.01878."""
    first, last = round(0.2 * STEPS), round(0.6 * STEPS)
    if step <= first:
        return 0.0
    return SHARE + (0 - SHARE) * (1 - min((step - first) / (last - first), 1)) ** 3


@pytest.fixture(scope="module")
def rows():
    """(weights, x, y of every step)."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    return normal(LAYERS, INPUTS, OUTPUTS), normal(STEPS, ROWS, INPUTS), normal(STEPS, ROWS, OUTPUTS)


def published(rows) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(weights, scores, masks) [layers, inputs, outputs] after every step."""
    start, x, y = rows
    weights = [torch.nn.Parameter(torch.tensor(w)) for w in start]
    scores = [torch.nn.Parameter(torch.zeros(INPUTS, OUTPUTS)) for _ in start]
    groups = [{"params": weights, "weight_decay": DECAY}, {"params": scores, "weight_decay": 0.0}]
    optimizer, found = torch.optim.AdamW(groups, lr=0.02), []
    for step in range(STEPS):
        gone = lambda: round(share_at(len(found)) * INPUTS * OUTPUTS)
        optimizer.zero_grad()
        made = [
            torch.nn.functional.linear(torch.tensor(x[step]), (w * Mask.apply(s, gone())).T)
            for w, s in zip(weights, scores, strict=True)
        ]
        sum((torch.tanh(one) - torch.tensor(y[step])).square().mean() for one in made).backward()
        optimizer.step()
        of = lambda ones: np.stack([one.detach().numpy().copy() for one in ones])
        found.append(0)
        masks = [Mask.apply(s, gone()) for s in scores]
        found[-1] = (of(weights), of(scores), of(masks))
    return found


def test_weights_scores_and_masks_are_the_published_ones_step_by_step(rows):
    view = Chain((Movement(weights=".*", share=SHARE, by="movement", begin=0.2, end=0.6),))
    start, x, y = rows
    constant = WarmupLinear(peak=0.02, warmup="0 steps", end=0.02)
    adam = AdamW(schedule=constant, weight_decay=DECAY, clip_norm=0.0, b1=0.9, b2=0.999, epsilon=1e-8)
    optimizer = view.optimizer(adam.make(Horizon(((STEPS, 1),)), view.axes(KNOWN)), STEPS)
    trained, frozen = view.split(nest({PATH: jnp.asarray(start)}), KNOWN, jax.random.key(0))

    def loss(trained, x_RI, y_RO):
        w_LIO = flatten(view.merge(trained, frozen))[PATH]
        made_LRO = jnp.einsum("RI,LIO->LRO", x_RI, w_LIO, precision="highest")
        return jnp.square(jnp.tanh(made_LRO) - y_RO).mean((1, 2)).sum()

    @jax.jit
    def step(trained, state, x_RI, y_RO):
        updates, state = optimizer.update(jax.grad(loss)(trained, x_RI, y_RO), state, trained)
        return jax.tree.map(jnp.add, trained, updates), state

    state, went_and_came = optimizer.init(trained), 0
    theirs = published(rows)
    for number, (weights, scores, masks) in enumerate(theirs):
        trained, state = step(trained, state, x[number], y[number])
        ours = flatten(trained)
        np.testing.assert_allclose(ours[PATH], weights, atol=2e-5)
        np.testing.assert_allclose(ours[f"{PATH}_scores"].reshape(masks.shape), scores, atol=2e-5)
        merged = flatten(view.merge(trained, frozen))[PATH]
        np.testing.assert_array_equal(np.asarray(merged) != 0, masks != 0, err_msg=f"step {number}")
        np.testing.assert_allclose(merged, weights * masks, atol=2e-5)
        went_and_came += int(((masks != 0) & (theirs[max(number - 1, 0)][2] == 0)).sum())
    assert went_and_came > 0, "what went may come back"
    assert ((masks == 0).sum((1, 2)) == round(SHARE * INPUTS * OUTPUTS)).all()
