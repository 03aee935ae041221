"""Claims about fine-tuning on conversations: answers are learned and nothing else, packing changes nothing, runs resume."""

import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import pytest

import jaxlm
from jaxlm.commands import export, generate, predict
from jaxlm.config import folder as runs
from jaxlm.data.tokenizer import load
from jaxlm.errors import UserError
from jaxlm.infer import frame
from jaxlm.models import values
from jaxlm.models.build import build
from jaxlm.models.paths import flatten, nest
from jaxlm.objectives.chat import Chat
from jaxlm.objectives.preferences import Preferences
from jaxlm.views import Freeze, KeepStart, LoRA
from jaxlm.views.view import facts
from tests.data import templates
from tests.objectives import chats
from tests.runs import final_state, metrics

LENGTH = 96
CHAT = Chat(column="messages", targets=48, items_per_row=8, z_loss=0.0, label_smoothing=0.0)
DPO = Preferences(
    column="prompt", targets=64, items_per_row=8, beta=0.1, form="sigmoid", label_smoothing=0.0, margin=0.0
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = tmp_path_factory.mktemp("chats")
    chats.written(made / "chats.jsonl", 60)
    return made


@pytest.fixture(scope="module")
def trained(place):
    run = chats.recipe("chat", place / "chats.jsonl", place, LENGTH)
    assert jaxlm.fit(run, workdir=place / "run").code == 0
    return place / "run"


def test_slots_of_a_row_are_those_of_the_training_data_and_are_kept(trained):
    objective = runs.saved_run(runs.RunFolder(trained)).objective
    assert 0 < objective.targets < LENGTH and objective.targets % 8 == 0
    losses = [line["train/loss"] for line in metrics(trained) if "train/loss" in line]
    assert losses[-1] < losses[0] - 1.0


def test_a_chat_run_is_asked_in_its_template_and_stops_where_the_turn_ends(trained, capsys):
    assert (
        generate.main(["generate", f"--run={trained}", "--json", "who wrote the book", "--max-new-tokens=40"])
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    tokenizer = load(trained / "tokenizer")
    around = frame.of_objective(CHAT, tokenizer)
    assert tokenizer.special("eos") in around.stops and said["reason"] == "stop token"
    assert "[INST]" not in said["text"]
    asked = [tokenizer.token(id) for id in frame.asking(tokenizer, around, "who")]
    assert asked[0] == "<s>" and "".join(asked[1:]).replace("Ġ", " ") == "[INST] who [/INST]"
    assert predict.main(["predict", f"--run={trained}", "who wrote the book"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == said["text"]


def test_the_template_is_exported_with_the_model(trained, tmp_path, capsys):
    assert export.main(["export", str(trained), str(tmp_path / "hf")]) == 0
    assert load(tmp_path / "hf").chat.text == templates.MISTRAL


def test_fine_tuning_goes_on_in_the_same_bits(place, trained):
    """As if the second half had never been: its checkpoint is gone, and what it wrote is cut off."""
    shutil.copytree(trained, place / "half")
    shutil.rmtree(place / "half" / "checkpoints" / "40")
    run = chats.recipe("chat", place / "chats.jsonl", place, LENGTH)
    assert jaxlm.fit(run, workdir=place / "half").code == 0
    whole, again = final_state(trained, 40), final_state(place / "half", 40)
    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[name], again[name]) for name in whole)
    assert metrics(trained) == metrics(place / "half")


def test_packed_conversations_weigh_as_alone(place):
    packed, vocabulary = chats.rows(CHAT, place / "chats.jsonl", place, LENGTH, 3)
    alone = dataclasses.replace(CHAT, items_per_row=1)
    single, _ = chats.rows(alone, place / "chats.jsonl", place, LENGTH, 60)
    assert packed.segments_BT.max() > 1 and single.segments_BT.max() == 1
    kept = {tuple(ids[labels >= 0]) for ids, labels in zip(*chats.one_a_row(single), strict=True)}
    seen = {tuple(ids[labels >= 0]) for ids, labels in zip(*chats.one_a_row(packed), strict=True)}
    assert seen <= kept and vocabulary.eos in next(iter(seen))


@pytest.mark.parametrize(
    "view", [LoRA(rank=2, alpha=4.0, scaling="rank"), KeepStart()], ids=["LoRA", "KeepStart"]
)
def test_preferences_start_at_ln_2_and_learn_beside_what_was(place, view, tmp_path):
    run = chats.recipe("preferences", place / "chats.jsonl", place, LENGTH)
    run.view, run.logging.every_steps = (view,), 1
    run.optimizer.schedule.peak = 3e-2 if isinstance(view, LoRA) else 3e-3
    assert jaxlm.fit(run, workdir=tmp_path / "run").code == 0
    lines = metrics(tmp_path / "run")
    first, last = lines[0], lines[-1]
    assert first["train/loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["train/preferences_accuracy"] == 0.0
    assert last["eval/preferences_loss"] < 0.62 and last["eval/preferences_accuracy"] > 0.8


@pytest.mark.parametrize(
    "view", [LoRA(rank=2, alpha=4.0, scaling="rank"), KeepStart()], ids=["LoRA", "KeepStart"]
)
def test_the_model_before_training_is_the_base_and_has_no_gradient(place, view):
    run = chats.recipe("chat", place / "chats.jsonl", place, LENGTH)
    batch, _ = chats.rows(CHAT, place / "chats.jsonl", place, LENGTH, 1)
    model = build(run.model)
    params = jax.jit(model.init)(jax.random.key(0))
    trained, frozen = view.split(flatten(params), facts(model), jax.random.key(1))
    moved = {path: array + 0.1 for path, array in trained.items()}

    @jax.jit
    def features(trained):
        bound = values.before(model.bind(nest(view.merge(trained, frozen))))
        return bound.encode(batch, None).x_BTD

    wanted = jax.jit(lambda params: model.bind(params).encode(batch, None).x_BTD)(params)
    np.testing.assert_allclose(features(moved), wanted, rtol=1e-5, atol=1e-6)
    grads = jax.jit(jax.grad(lambda trained: features(trained).sum()))(moved)
    assert all(not np.any(grad) for grad in grads.values())


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda run: setattr(run, "view", ()), 'nothing keeps its weights. Fix: "--config.view=\\(LoRA'),
        (lambda run: setattr(run, "view", (Freeze(pattern="embed.*"),)), "nothing keeps its weights"),
        (lambda run: setattr(run.objective, "beta", 0.0), "objective.beta=0.0: allowed is above 0"),
        (lambda run: setattr(run.objective, "margin", 0.5), "takes no margin"),
        (lambda run: setattr(run.objective, "targets", -1), "objective.targets=-1: allowed is 1 or more"),
        (lambda run: setattr(run.objective, "items_per_row", 0), "objective.items_per_row=0: allowed is 1"),
        (
            lambda run: setattr(run.objective, "label_smoothing", 0.5),
            "label_smoothing=0.5: allowed is 0 to 0.49",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(change, message):
    run = jaxlm.load_recipe("preferences")
    change(run)
    with pytest.raises(UserError, match=message):
        run.validate()


def test_a_column_that_holds_no_conversations_is_refused(place, tmp_path):
    run = chats.recipe("chat", place / "chats.jsonl", place, LENGTH)
    run.data.columns = ()
    with pytest.raises(UserError, match=r"no Messages of that name. Fix: .*Messages\(field='messages'\)"):
        jaxlm.fit(run, workdir=tmp_path / "run")


@pytest.mark.parametrize("form", ["simpo", "orpo"])
def test_objectives_without_a_reference_take_any_view(form):
    run = jaxlm.load_recipe("preferences")
    run.view, run.objective.form, run.objective.beta = (), form, 2.0
    run.validate()
    assert DPO.has_reference and not run.objective.has_reference
