"""Claims about AdaLoRA's sharing of ranks: importance, budget and cuts are those of the published code (peft's
RankAllocator), step by step; the term of orthogonality is the published one."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlm.models.paths import flatten, nest
from jaxlm.views import budget

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
peft = pytest.importorskip("peft", reason="needs the extra `parity` (peft)")

RANK, TARGET, STEPS, RATE = 4, 2, 24, 0.1
SHAPES = {"q": (6, 5), "k": (6, 7)}  # inputs, outputs


class Two(torch.nn.Module):
    """Two linear layers that AdaLoRA acts on."""

    def __init__(self):
        super().__init__()
        for name, (inputs, outputs) in SHAPES.items():
            setattr(self, name, torch.nn.Linear(inputs, outputs, bias=False))

    def forward(self, x):
        return sum(getattr(self, name)(x).sum() for name in SHAPES)


def adalora() -> Any:
    config = peft.AdaLoraConfig(
        init_r=RANK,
        target_r=TARGET,
        tinit=4,
        tfinal=6,
        deltaT=3,
        total_step=STEPS,
        target_modules=list(SHAPES),
    )
    return peft.get_peft_model(Two(), config).base_model


def ours(model, of=lambda p: p) -> dict:
    """Their parameters, or what `of` says of them, in our shapes."""
    found = {}
    for name in SHAPES:
        layer = getattr(model.model, name)
        pick = lambda part, layer=layer: of(getattr(layer, part)["default"]).detach().numpy().copy()
        found[f"{name}/lora_a"], found[f"{name}/lora_b"] = pick("lora_A").T, pick("lora_B").T
        found[f"{name}/lora_e"] = pick("lora_E")[:, 0]
    return found


def test_ranks_are_cut_as_in_the_published_code():
    torch.manual_seed(0)
    model, rng = adalora(), np.random.default_rng(0)
    schedule = budget.Schedule(first=4, last=STEPS - 6, every=3, rank=RANK, target=TARGET)
    optimizer = budget.shared(optax.sgd(RATE), schedule, decay=0.85, orthogonality=0.0)
    params = nest(jax.tree.map(jnp.asarray, ours(model)))
    state, step = optimizer.init(params), jax.jit(optimizer.update)
    ranks = []
    for number in range(1, STEPS + 1):
        for name in SHAPES:
            for part in ("lora_A", "lora_B", "lora_E"):
                p = getattr(getattr(model.model, name), part)["default"]
                p.grad = torch.tensor(
                    rng.normal(size=p.shape, scale=rng.uniform(0.1, 3)), dtype=torch.float32
                )
        grads = nest(jax.tree.map(jnp.asarray, ours(model, lambda p: p.grad)))
        with torch.no_grad():
            for name in SHAPES:
                for part in ("lora_A", "lora_B", "lora_E"):
                    p = getattr(getattr(model.model, name), part)["default"]
                    p -= RATE * p.grad
        model.update_and_allocate(number)
        updates, state = step(grads, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        found, expected = flatten(params), ours(model)
        for path in expected:
            np.testing.assert_allclose(
                found[path], expected[path], atol=1e-5, err_msg=f"{path}, step {number}"
            )
        ranks.append(sum(int((x != 0).sum()) for p, x in found.items() if p.endswith("lora_e")))
    assert ranks[0] == 2 * RANK and set(ranks[STEPS - 7 :]) == {2 * TARGET}
    assert any(a < b for a, b in itertools.pairwise(ranks)), "what was cut comes back until the last cut"


def test_the_term_of_orthogonality_is_the_published_one():
    torch.manual_seed(1)
    model = adalora()
    parts = [p for n, p in model.named_parameters() if "lora_A" in n or "lora_B" in n]
    total = torch.zeros(())
    for p in parts:  # as in AdaLoraModel.forward
        square = p @ p.T if p.shape[0] == RANK else p.T @ p
        total = total + torch.norm(square - torch.eye(RANK), p="fro")
    (total / len(parts)).backward()
    params = nest(jax.tree.map(jnp.asarray, ours(model)))
    assert budget.skewness(params) == pytest.approx(float(total.detach()) / len(parts), rel=1e-5)
    slopes = flatten(jax.grad(budget.skewness)(params))
    for name in SHAPES:
        layer = getattr(model.model, name)
        np.testing.assert_allclose(
            slopes[f"{name}/lora_a"], layer.lora_A["default"].grad.numpy().T, atol=1e-6
        )
        np.testing.assert_allclose(
            slopes[f"{name}/lora_b"], layer.lora_B["default"].grad.numpy().T, atol=1e-6
        )
