"""Loss, gradients and three steps of AdamW of a model of ours beside those of transformers'."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch

from jaxlm.convert import families
from tools.parity import checks
from tools.parity.case import jit

# The gradient of a key's bias is zero but for rounding: it shifts all scores of a query alike.
ROUNDING = ("key.bias", "k_lin.bias", "k_proj.bias", "c_attn.bias")


def compare(
    hf: Any,
    config: Any,
    params: Any,
    ours: Callable[[Any], tuple[Any, Any]],
    theirs: Callable[[], Any],
    rounding: tuple[str, ...] = (),
    moved: float = checks.GRADIENTS,
) -> Any:
    """Asserts that they are the same, after the steps to `moved` of the movement; what is beside our first loss.

    `ours`: our parameters -> (loss, anything); `theirs`: -> the loss of `hf`, a torch scalar; `rounding`: how names of
    more parameters end whose gradient is zero but for rounding. One program is compiled.
    """
    rounding += ROUNDING
    how: dict[str, Any] = {"eps": checks.EPSILON, "weight_decay": checks.DECAY}
    optimizer, torch_optimizer = (
        optax.adamw(checks.RATE, **how),
        torch.optim.AdamW(hf.parameters(), lr=checks.RATE, **how),
    )

    @jit
    def step(params, state):
        (value, beside), grads = jax.value_and_grad(ours, has_aux=True)(params)
        updates, state = optimizer.update(grads, state, params)
        return value, beside, grads, optax.apply_updates(params, updates), state

    exported = lambda tree: families.export_params(jax.tree.map(np.asarray, tree), config)
    before, state, first = exported(params), optimizer.init(params), None
    for number in range(3):
        value, beside, grads, params, state = step(params, state)
        torch_optimizer.zero_grad()
        loss = theirs()
        loss.backward()
        np.testing.assert_allclose(value, loss.item(), rtol=checks.LOGITS)
        if not number:
            first = beside
            _gradients(exported(grads), {key: p.grad for key, p in hf.named_parameters()}, rounding)
        torch_optimizer.step()
    _moved(hf, before, exported(params), rounding, moved)
    return first


def _gradients(ours: Any, theirs: Any, rounding: tuple[str, ...]) -> None:
    for key, grad in theirs.items():
        if grad is None:
            continue
        grad = grad.numpy()
        if key.endswith(rounding):
            assert np.abs(ours[key] - grad).max() < 1e-4 * max(1.0, np.abs(grad).max()), key
        else:
            assert checks.difference(ours[key], grad) < checks.GRADIENTS, key


def _moved(hf: Any, before: Any, after: Any, rounding: tuple[str, ...], allowed: float) -> None:
    for key, parameter in hf.named_parameters():
        if parameter.grad is None or key.endswith(rounding):
            continue
        theirs = parameter.detach().numpy()
        moved = np.abs(theirs - before[key]).max()
        assert np.abs(after[key] - theirs).max() <= allowed * max(moved, 1e-6), key
