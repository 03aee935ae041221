"""Classes of texts, packed into one row: loss, gradients and three AdamW steps of transformers' one text a row."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra `parity` (torch)")
pytest.importorskip("transformers", reason="needs the extra `parity` (transformers)")

import dataclasses

import jax
import optax
import torch

from jaxlm.batch import Batch
from jaxlm.convert import families
from jaxlm.exchange import stored
from jaxlm.models.build import build
from jaxlm.models.paths import nest
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.targets import ItemTargets
from tests.convert.test_class_heads_parity import EOS, FAMILIES, LABELS, PAD, reference
from tools.parity import checks
from tools.parity.case import jit

LENGTHS, RIGHT = (11, 6, 9), (2, 0, 1)
OBJECTIVE = Classification(
    column="label",
    labels=tuple(sorted(LABELS.values())),
    texts=1,
    pooling="own",
    max_tokens=20,
    items_per_row=3,
)
# The gradient of a key's bias is zero but for rounding: it shifts all scores of a query alike.
ROUNDING = ("key.bias", "k_lin.bias", "k_proj.bias", "c_attn.bias")


def texts():
    rng = np.random.default_rng(4)
    return [np.append(rng.integers(5, 90, n - 1), EOS) for n in LENGTHS]


def packed(name):
    """All texts in one row, and padding behind."""
    made = {key: np.zeros((1, 30), np.int32) for key in ("tokens", "segments", "positions", "types")}
    first, at = np.zeros((1, 3), np.int32), 0
    for c, text in enumerate(texts()):
        span = slice(at, at + len(text))
        made["tokens"][0, span], made["segments"][0, span] = text, c + 1
        made["positions"][0, span], first[0, c] = np.arange(len(text)), at
        at = span.stop
    targets = ItemTargets(
        first_BC=first,
        labels_BC=np.array([RIGHT], np.int32),
        weights_BC=np.ones((1, 3), np.float32),
        start_B=np.array([PAD if name == "T5" else EOS], np.int32),
    )
    return Batch(**{f"{key}_BT": array for key, array in made.items()}, targets=targets)


def theirs(hf):
    ids, mask = torch.full((3, max(LENGTHS)), PAD), torch.zeros((3, max(LENGTHS)), dtype=torch.long)
    for row, text in enumerate(texts()):
        ids[row, : len(text)], mask[row, : len(text)] = torch.from_numpy(text), 1
    return hf(input_ids=ids, attention_mask=mask, labels=torch.tensor(RIGHT)).loss


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_gradients_and_three_steps_of_a_packed_row_are_those_of_one_text_a_row(name, tmp_path):
    hf = reference(name, "classes")
    hf.save_pretrained(tmp_path)
    found = stored.of_hf(tmp_path)
    config = dataclasses.replace(
        found.config, **{f.name: 0.0 for f in dataclasses.fields(found.config) if "dropout" in f.name}
    )
    model, batch, params = build(config, found.heads), packed(name), nest(dict(found.hosts()))
    optimizer = optax.adamw(checks.RATE, eps=checks.EPSILON, weight_decay=checks.DECAY)
    torch_optimizer = torch.optim.AdamW(
        hf.parameters(), lr=checks.RATE, eps=checks.EPSILON, weight_decay=checks.DECAY
    )

    @jit
    def step(params, state):
        def loss(params):
            total, weight = OBJECTIVE.loss(model.bind(params), batch, None).terms["classes"]
            return total / weight

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(grads, state, params)
        return value, grads, optax.apply_updates(params, updates), state

    exported = lambda tree: families.export_params(jax.tree.map(np.asarray, tree), config)
    before, state = exported(params), optimizer.init(params)
    for number in range(3):
        value, grads, params, state = step(params, state)
        torch_optimizer.zero_grad()
        loss = theirs(hf)
        loss.backward()
        np.testing.assert_allclose(value, loss.item(), rtol=checks.LOGITS)
        if not number:
            _compare(hf, exported(grads), {key: p.grad for key, p in hf.named_parameters()})
        torch_optimizer.step()
    after = exported(params)
    for key, parameter in hf.named_parameters():
        if parameter.grad is None or key.endswith(ROUNDING):
            continue
        moved = np.abs(parameter.detach().numpy() - before[key]).max()
        away = np.abs(after[key] - parameter.detach().numpy()).max()
        assert away <= checks.GRADIENTS * max(moved, 1e-6), key


def _compare(hf, ours, theirs):
    for key, grad in theirs.items():
        if grad is None:
            continue
        grad = grad.numpy()
        if key.endswith(ROUNDING):
            assert np.abs(ours[key] - grad).max() < 1e-4 * max(1.0, np.abs(grad).max()), key
        else:
            assert checks.difference(ours[key], grad) < checks.GRADIENTS, key
