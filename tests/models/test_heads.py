"""Claims about heads: a recipe brings its own, tasks share equal ones, every family's are where former names point."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxlm.checkpoint import former as former_names
from jaxlm.config import flags, former, tree
from jaxlm.errors import UserError
from jaxlm.models import parameters
from jaxlm.models.build import build
from jaxlm.models.heads import Classify, Head, Tokens, of_texts
from jaxlm.objectives import scores
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.objectives.predictions import Logits, Predictions
from jaxlm.objectives.wrapped import Wrapped

RECIPES = pathlib.Path(__file__).parents[1] / "recipes" / "objectives"


class Scale(nnx.Module):
    """One number per feature, then a sum: a head that no family knows of."""

    def __init__(self, width, rngs):
        self.scale = parameters.weight(rngs, (width,), ("embed",), 1.0)

    def __call__(self, x_BTD):
        return (x_BTD * self.scale[...]).sum(-1)


@dataclasses.dataclass(kw_only=True, frozen=True)
class Scaled(Head):
    """As a recipe would define it."""

    def module(self, config, rngs, dtype, body):
        return Scale(body.embeddings.tokens.table.shape[1], rngs)


@dataclasses.dataclass(kw_only=True)
class Marked(MaskedLM):
    """Masked LM with one more number per token."""

    def heads(self, config):
        return {**super().heads(config), "marks": Scaled()}

    def predict(self, model, batch, key):
        encoded = model.encode(batch, key)
        mlm = scores.token_logits(model, encoded.x_BTD, batch.targets)
        marks = Logits(encoded.x_BTD, model, lambda m, x_BTD: m.heads["marks"](x_BTD), batch.segments_BT > 0)
        return Predictions.of(encoded, mlm=mlm, marks=marks)


def marked():
    run = flags.load(RECIPES / "masked_lm.py")
    fields = {f.name: getattr(run.objective, f.name) for f in dataclasses.fields(run.objective)}
    run.objective = Marked(**fields)
    return run


def test_an_objective_of_a_recipe_brings_a_head_that_nothing_here_knows():
    run = marked()
    run.validate()
    assert dict(run.heads) == {"tokens": Tokens(), "marks": Scaled()}
    model = build(run.model, run.heads)
    assert model.axes["heads"]["marks"] == {"scale": ("embed",)}
    plain = build(run.model, {"tokens": Tokens()})
    ours, theirs = (jax.jit(m.init)(jax.random.key(3)) for m in (model, plain))
    del ours["heads"]["marks"]  # the last to be drawn: everything before it is as without it
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def test_a_wrapper_has_the_heads_of_what_it_wraps_and_may_add_one():
    run = marked()
    assert Wrapped(of=run.objective).heads(run.model) == run.objective.heads(run.model)


def test_tasks_share_equal_heads_and_two_meanings_of_one_name_are_refused():
    run = marked()
    plain = flags.load(RECIPES / "next_sentence.py").objective
    tasks = lambda *objectives: MultiTask(
        tasks=tuple(Task(name=f"t{i}", objective=o, weight=1.0, rows=4) for i, o in enumerate(objectives))
    )
    assert list(tasks(run.objective, plain).heads(run.model)) == ["tokens", "marks", "pooler", "nsp"]

    class Other(Marked):
        def heads(self, config):
            return {"marks": Classify(classes=3)}

    fields = {f.name: getattr(run.objective, f.name) for f in dataclasses.fields(run.objective)}
    with pytest.raises(UserError, match="t1 has Classify.classes=3. as its head 'marks', another task has"):
        tasks(run.objective, Other(**fields)).check_model(run.model, "config.model")


def test_heads_of_before_have_the_names_of_today():
    stored = [
        "params/token_head/w",
        "params/next_sentence_head/w_pool",
        "params/next_sentence_head/w",
        "opt_state/0/mu/next_sentence_head/b_pool",
        "params/generator/token_head/norm/scale",
        "params/discriminator/detect_head/transform/w",
        "params/blocks/mlp/w_in",
    ]
    heads = lambda *names: [f"heads/{name}/" for name in names]
    assert list(former_names.by_present_name(stored, heads("tokens", "pooler", "sop", "replaced"))) == [
        "params/heads/tokens/w",
        "params/heads/pooler/w",
        "params/heads/sop/w",
        "opt_state/0/mu/heads/pooler/b",
        "params/heads/tokens/norm/scale",
        "params/heads/replaced/transform/w",
        "params/blocks/mlp/w_in",
    ]
    assert former_names.by_present_name(stored[:3], heads("tokens")) == {"params/heads/tokens/w": stored[0]}
    today = ["params/heads/tags/w"]
    assert former_names.by_present_name(today, []) == dict.fromkeys(today, *today)


@pytest.mark.parametrize(
    ("recipe", "fields", "heads"),
    [
        ("bert_base", {"next_sentence": "pooled"}, ("tokens", "pooler", "nsp")),
        ("bert_base", {"next_sentence": "pooler", "token_head": "none"}, ("pooler",)),
        ("albert_base", {"next_sentence": "pooled", "token_head": "transform"}, ("tokens", "pooler", "sop")),
        ("roberta_base", {"next_sentence": "none"}, ("tokens",)),
        ("distilbert_base", {"token_head": "none"}, ()),
        ("modernbert_base", {}, ("tokens",)),
        ("electra_small", {}, ("tokens", "replaced")),
        ("gpt2_small", {}, ()),
    ],
)
def test_a_config_of_before_is_read_and_tells_its_heads(recipe, fields, heads):
    model = flags.load(RECIPES.parents[2] / "configs" / f"{recipe}.py").model
    written = tree.to_json(model) | fields
    assert tree.from_json(written) == model
    assert former.heads(written) == heads


@pytest.mark.parametrize(
    ("head", "heads"), [("detect", ("replaced",)), ("tokens", ("tokens",)), ("none", ())]
)
def test_an_electra_of_before_tells_its_head(head, heads):
    model = flags.load(RECIPES.parents[2] / "configs" / "electra_small.py").model.generator
    written = tree.to_json(model) | {"head": head}
    assert tree.from_json(written) == model and former.heads(written) == heads


def test_classes_are_float32_whatever_the_features_are():
    run = flags.load(RECIPES / "masked_lm.py")
    model = build(run.model, {"tags": Classify(classes=5)}, dtype="bfloat16")
    params = jax.jit(model.init)(jax.random.key(0))
    x_BTD = jnp.ones((2, 3, run.model.hidden), jnp.bfloat16)
    logits = model.bind(params).heads["tags"](x_BTD)
    assert logits.shape == (2, 3, 5) and logits.dtype == jnp.float32


@pytest.mark.parametrize("recipe", ["bert_base", "roberta_base"])
def test_classes_of_a_text_have_dropout_with_a_key_only(recipe):
    config = flags.load(RECIPES.parents[2] / "configs" / f"{recipe}.py").model
    config = dataclasses.replace(config, vocab_size=50, hidden=64, heads=4, layers=1, mlp=8, dropout=0.5)
    model = build(config, of_texts(config, 3))
    module = model.bind(jax.jit(model.init)(jax.random.key(0)))
    x_BCD = jnp.ones((2, 1, 64))
    plain, again = module.classify(x_BCD), module.classify(x_BCD)
    dropped = [module.classify(x_BCD, key=key) for key in jax.random.split(jax.random.key(1), 500)]
    assert plain.shape == (2, 1, 3) and np.array_equal(plain, again) and not np.allclose(plain, dropped[0])
    spread = np.std(dropped, axis=0) / len(dropped) ** 0.5
    assert (np.abs(np.mean(dropped, axis=0) - plain) < 5 * spread).all()
