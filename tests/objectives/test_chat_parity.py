"""Parity with Hugging Face: losses and gradients of packed conversations are those of one a row in transformers."""

import dataclasses

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference is in torch")
pytest.importorskip("transformers", reason="the reference is in transformers")

import torch

from jaxlm.convert import families
from jaxlm.models.paths import flatten, nest
from jaxlm.objectives.chat import Chat
from jaxlm.objectives.preferences import Preferences
from jaxlm.views import KeepStart
from tests.objectives import chats
from tools.parity.case import Case, jit
from tools.parity.cases.llama import LLAMA
from tools.parity.kinds import Causal

LENGTH = 96
CHAT = Chat(column="messages", targets=48, items_per_row=8, z_loss=0.0, label_smoothing=0.0, chunk=20)
DPO = Preferences(
    column="prompt",
    targets=64,
    items_per_row=8,
    beta=0.3,
    form="sigmoid",
    label_smoothing=0.0,
    margin=0.0,
    chunk=20,
)
FORMS = {
    "sigmoid": DPO,
    "cDPO": dataclasses.replace(DPO, label_smoothing=0.2),
    "ipo": dataclasses.replace(DPO, form="ipo"),
    "simpo": dataclasses.replace(DPO, form="simpo", beta=2.0, margin=0.7),
    "orpo": dataclasses.replace(DPO, form="orpo", beta=0.4),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = tmp_path_factory.mktemp("chats")
    chats.written(made / "chats.jsonl", 40)
    return made


def tiny(vocabulary):
    config = dataclasses.replace(LLAMA, vocab_size=vocabulary.size, layers=2, max_positions=LENGTH)
    return Case(name="chat", config=config, kind=Causal(), extra={"bos_token_id": 1, "eos_token_id": 2})


def close(case, hf, grads):
    for name, ours in families.export_params(grads, case.config).items():
        theirs = hf.get_parameter(name).grad.numpy()
        assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(theirs).max() + 1e-7, name


def test_loss_and_gradient_of_packed_chats_are_those_of_labels_in_transformers(place):
    batch, vocabulary = chats.rows(CHAT, place / "chats.jsonl", place, LENGTH, 4)
    assert batch.segments_BT.max() > 1
    case = tiny(vocabulary)
    hf, model = case.reference(), case.model()
    weight = CHAT.weights(batch)["lm"]

    def loss(params):
        total, counted = CHAT.loss(model.bind(params), batch, None).terms["lm"]
        return total / counted

    ours, grads = jit(jax.value_and_grad(loss))(case.params(hf))
    ids, labels = chats.one_a_row(batch)
    assert (labels[:, 1:] >= 0).sum() == weight
    theirs = hf(
        input_ids=torch.tensor(ids), labels=torch.tensor(labels)
    ).loss  # causal: padding behind is not seen
    theirs.backward()
    np.testing.assert_allclose(float(ours), float(theirs.detach()), rtol=1e-5)
    close(case, hf, grads)


def log_p(hf, ids, labels):
    logits = hf(input_ids=torch.tensor(ids)).logits[:, :-1].log_softmax(-1)
    wanted = torch.tensor(labels[:, 1:])
    picked = logits.gather(2, wanted.clamp(min=0)[..., None])[..., 0]
    return torch.where(wanted >= 0, picked, 0.0).sum(1), (wanted >= 0).sum(1)


def reference_loss(form, policy, before, ids, labels):
    """As in the papers, with two models."""
    (sums, counts), smoothing = log_p(policy, ids, labels), form.label_smoothing
    with torch.no_grad():
        base, _ = log_p(before, ids, labels)
    chosen, rejected = slice(0, None, 2), slice(1, None, 2)
    if form.form == "orpo":
        mean = (sums / counts).double()
        odds = mean - torch.log(1 - mean.exp())
        ratio = torch.nn.functional.logsigmoid(odds[chosen] - odds[rejected])
        return (-mean[chosen] - form.beta * ratio).mean()
    if form.form == "simpo":
        mean = sums / counts
        logit = form.beta * (mean[chosen] - mean[rejected]) - form.margin
    elif form.form == "ipo":
        gain = (sums - base) / counts
        return ((gain[chosen] - gain[rejected] - 1 / (2 * form.beta)) ** 2).mean()
    else:
        logit = form.beta * ((sums[chosen] - base[chosen]) - (sums[rejected] - base[rejected]))
    log_sigmoid = torch.nn.functional.logsigmoid
    return (-(1 - smoothing) * log_sigmoid(logit) - smoothing * log_sigmoid(-logit)).mean()


@pytest.mark.parametrize("name", FORMS)
def test_loss_and_gradient_of_preferences_are_those_of_two_models_in_torch(place, name):
    form = FORMS[name]
    batch, vocabulary = chats.rows(form, place / "chats.jsonl", place, LENGTH, 3)
    case = tiny(vocabulary)
    hf, before, model = case.reference(), case.reference(seed=1), case.model()
    start, view = flatten(case.params(before)), KeepStart()

    def loss(params):
        bound = model.bind(nest(view.merge(flatten(params), start)))
        total, counted = form.loss(bound, batch, None).terms["preferences"]
        return total / counted

    ours, grads = jit(jax.value_and_grad(loss))(case.params(hf))
    theirs = reference_loss(form, hf, before, *chats.one_a_row(batch))
    theirs.backward()
    np.testing.assert_allclose(float(ours), float(theirs.detach()), rtol=2e-5)
    close(case, hf, grads)


def test_only_the_slots_reach_the_decoder(place):
    """The vocabulary's logits exist for chunks of them, forward and backward, and nowhere else."""
    batch, vocabulary = chats.rows(CHAT, place / "chats.jsonl", place, LENGTH, 4)
    model, padded = tiny(vocabulary).model(), -(-vocabulary.size // 128) * 128
    gradient = jax.grad(lambda params: CHAT.loss(model.bind(params), batch, None).terms["lm"][0])
    seen = {
        shape[1] for shape in chats.shapes(gradient, model.shapes) if len(shape) == 3 and shape[2] == padded
    }
    assert seen and max(seen) == CHAT.chunk < CHAT.targets
