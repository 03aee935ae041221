"""Claims about every model x every objective: a pair can be trained, or is refused by name before anything is prepared."""

import contextlib
import dataclasses
import importlib
import pathlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm import models, objectives
from jaxlm.batch import Batch
from jaxlm.config import flags
from jaxlm.errors import UserError
from jaxlm.models.build import build
from jaxlm.models.t5_encoder import T5Encoder
from jaxlm.models.taught import Taught
from jaxlm.objectives.crf import CrfTagging
from jaxlm.objectives.distil import Distil, SoftTargets
from jaxlm.objectives.multi_label import LabelsTargets, MultiLabel
from jaxlm.objectives.multi_task import MultiTask, Task
from jaxlm.objectives.multiple_choice import MultipleChoice
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.preferences import Preferences, PreferenceTargets
from jaxlm.objectives.question_answering import AnswerTargets, QuestionAnswering
from jaxlm.objectives.regression import NumberTargets, Regression
from jaxlm.objectives.relations import Relations, RelationTargets
from jaxlm.objectives.sentence_pairs import PairTargets, SentencePairs
from jaxlm.objectives.similarity import Similarity
from jaxlm.objectives.tagging import Tagging, TagTargets
from jaxlm.objectives.targets import ItemTargets, TokenTargets
from jaxlm.objectives.wrapped import Wrapped

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = sorted(path.stem for path in (ROOT / "tests/recipes/objectives").glob("*.py"))
PUBLISHED = [
    "albert_base",
    "bart_base",
    "bert_base",
    "distilbert_base",
    "electra_small",
    "gpt2_small",
    "llama_7b",
    "mixtral_8x7b",
    "modernbert_base",
    "roberta_base",
    "t5_base",
    "transformer_base",
]


def recipe(name):
    return flags.load(ROOT / "tests/recipes/objectives" / f"{name}.py")


def published(name):
    return flags.load(ROOT / "configs" / f"{name}.py")


def all_models():
    found = {name: published(name).model for name in PUBLISHED}
    for config in found.values():
        config.layer_loop = "scan"  # one layer is traced, whatever the platform would unroll
    pair = found["electra_small"]
    found["albert_base"].dropout = 0.1  # published: none, which unsupervised SimCSE refuses
    return found | {
        "generator": pair.generator,
        "discriminator": pair.discriminator,
        "t5_encoder": found["t5_base"].part("encoder"),
    }


def all_objectives():
    found = {name: recipe(name).objective for name in RECIPES}
    found["translation"] = published("transformer_base").objective
    found["summarisation"] = published("summarisation").objective
    for name in ("classification", "tagging", "multi_label", "relation_extraction"):
        found[name] = published(name).objective.told(("one", "other"))
    found["crf"] = CrfTagging(**vars(found["tagging"]))
    found["multiple_choice"] = dataclasses.replace(published("multiple_choice").objective, choices=2)
    found["similarity"] = published("similarity").objective
    found["question_answering"] = published("question_answering").objective
    for name in ("chat", "preferences"):
        found[name] = dataclasses.replace(published(name).objective, targets=16)
    found["regression"] = Regression(column="score", texts=1, pooling="own", max_tokens=14, items_per_row=6)
    found["pair_contrastive"] = published("simcse_bert_base_supervised").objective
    first, second = (
        Task(name=n, objective=found[n], weight=1.0, rows=4) for n in ("masked_lm", "contrastive")
    )
    return found | {"multi_task": MultiTask(tasks=(first, second))}


MODELS, OBJECTIVES = all_models(), all_objectives()


def classes(package, wanted):
    """Names of the public classes of a package for which `wanted` holds."""
    names = [f"{package.__name__}.{m.name}" for m in pkgutil.iter_modules(package.__path__)]
    every = [c for name in names for c in vars(importlib.import_module(name)).values() if isinstance(c, type)]
    return {c.__name__ for c in every if c.__module__.startswith(package.__name__) and wanted(c)}


def test_the_tables_hold_every_model_and_every_objective():
    assert classes(
        models, lambda c: dataclasses.is_dataclass(c) and hasattr(c, "module") and hasattr(c, "kind")
    ) == {type(model).__name__ for model in MODELS.values()}
    scored = lambda c: issubclass(c, Objective) and "loss" in dir(c) and dataclasses.is_dataclass(c)
    derived = lambda c: [
        d for d in c.__subclasses__() if d.__module__.startswith("jaxlm.")
    ]  # not those of tests
    leaves = classes(objectives, lambda c: scored(c) and not derived(c) and not issubclass(c, Wrapped))
    single = [one for one in OBJECTIVES.values() if not isinstance(one, MultiTask)]
    names = {type(objective).__name__ for objective in single}
    assert leaves == names - {"Tagging", "Translation"}  # which others derive from


def fields(objective, rows=8, length=16, vocab=60):
    """A batch, with a source for objectives that have one. Items of three texts, so that hard negatives are there."""
    rng = np.random.default_rng(0)
    ids = lambda high, width=length: rng.integers(1, high, (rows, width), dtype=np.int32)
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    row = {"tokens": ids(vocab), "segments": np.ones((rows, length), np.int32), "positions": places}
    given = {f"{name}_BT": values for name, values in row.items()}
    given |= {"types_BT": np.zeros((rows, length), np.int32), "prefix_BT": (places < 4).astype(np.int32)}
    places = None if objective.token_term == "lm" else places
    tokens = TokenTargets(ids_BM=ids(vocab), weights_BM=np.ones((rows, length), "f"), places_BM=places)
    items = ItemTargets(
        first_BC=np.zeros((rows, 6), np.int32),
        labels_BC=ids(2, 6) - 1,
        weights_BC=np.ones((rows, 6), "f"),
        start_B=np.ones(rows, np.int32),
    )
    real = {"first_BC": items.first_BC, "weights_BC": items.weights_BC, "start_B": items.start_B}
    if isinstance(objective, MultiLabel):
        given["targets"] = LabelsTargets(**real, labels_BCK=np.zeros((rows, 6, 2), "f"))
    elif isinstance(objective, Regression | Similarity):
        given["targets"] = NumberTargets(
            **real | {"weights_BC": real["weights_BC"][:, :3]} if isinstance(objective, Similarity) else real,
            numbers_BC=np.zeros((rows, 3 if isinstance(objective, Similarity) else 6), "f"),
        )
    elif isinstance(objective, Relations):
        places = np.zeros((rows, 6, 2), np.int32)
        given["targets"] = RelationTargets(
            places_BC2=places, labels_BC=items.labels_BC, weights_BC=items.weights_BC
        )
    elif isinstance(objective, MultipleChoice):
        slots = {"labels_BC": items.labels_BC[:, :3], "weights_BC": items.weights_BC[:, :3]}
        given["targets"] = dataclasses.replace(items, **slots)
    elif isinstance(objective, QuestionAnswering):
        given["targets"] = AnswerTargets(
            places_BC2=np.zeros((rows, 6, 2), np.int32), weights_BC=items.weights_BC, start_B=items.start_B
        )
    elif isinstance(objective, Preferences):
        given["targets"] = PreferenceTargets(
            tokens=dataclasses.replace(tokens, places_BM=given["positions_BT"]),
            answers_BM=np.zeros((rows, length), np.int32),
            weights_BC=items.weights_BC,
        )
    elif isinstance(objective, Tagging):
        given["targets"] = TagTargets(tags_BT=ids(5), weights_BT=np.ones((rows, length), "f"))
    elif isinstance(objective, SentencePairs):
        given["targets"] = PairTargets(tokens=tokens, items=items)
    else:
        given["targets"] = tokens if objective.token_term else items
    if objective.trains == "encoder_decoder":
        given |= {f"source_{name}_BS": values for name, values in row.items()}
    return Batch(**given)


def batch_of(objective):
    if isinstance(objective, MultiTask):
        return {task.name: fields(task.objective) for task in objective.tasks}
    return fields(objective)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_refused_can_be_computed(name):
    """Lowered with shapes alone, so that published sizes cost nothing."""
    config, trained = MODELS[name], []
    for objective in OBJECTIVES.values():
        try:
            objective.check_model(config, "config.model")
        except UserError as error:
            name = type(objective).__name__
            assert f"config.model={type(config).__name__}" in str(error)
            assert name in str(error) or name == "MultiTask"
            continue
        model = build(config, objective.heads(config))
        loss = lambda params, batch, o=objective, m=model: o.loss(m.bind(params), batch, jax.random.key(0))
        found = jax.eval_shape(loss, model.shapes, batch_of(objective))
        assert all(total.shape == () for total, _ in found.terms.values())
        trained.append(type(objective).__name__)
    encoder, alone = config.kind == "encoder", isinstance(config, T5Encoder)  # which predicts no tokens
    assert ("MaskedLM" in trained) == (encoder and not alone)
    assert ("CausalLM" in trained) == (config.kind == "decoder")
    assert ("SpanCorruption" in trained) == (config.kind == "encoder_decoder")
    assert ("ReplacedTokens" in trained) == (config.kind == "pair")
    assert ("NextSentence" in trained) == (encoder and not alone)
    assert ("DropoutContrastive" in trained) == encoder


@pytest.mark.parametrize("name", ["masked_lm", "causal_lm", "span_corruption", "replaced_tokens"])
def test_a_pair_of_each_kind_trains_a_step(name):
    run = recipe(name)
    run.validate()
    model = build(run.model, run.heads)
    batch = jax.tree.map(jnp.asarray, fields(run.objective))

    @jax.jit
    def step(params):
        loss = lambda p: sum(t / w for t, w in run.objective.loss(model.bind(p), batch, None).terms.values())
        value, grads = jax.value_and_grad(loss)(params)
        return value, jax.tree.map(lambda p, g: p - 0.01 * g, params, grads)

    first, params = step(jax.jit(model.init)(jax.random.key(0)))
    second, _ = step(params)
    assert np.isfinite(first) and second < first


@pytest.mark.parametrize(
    ("model", "objective", "message"),
    [
        (
            "llama_7b",
            "masked_lm",
            r"config.model=Llama: MaskedLM here trains an encoder, .*; Llama is a decoder",
        ),
        (
            "t5_base",
            "masked_lm",
            r"config.model=T5: MaskedLM here trains an encoder, .*; T5 is an encoder-decoder",
        ),
        (
            "electra_small",
            "masked_lm",
            r"config.model=Electra: MaskedLM .*; Electra is a generator and a disc",
        ),
        (
            "bert_base",
            "replaced_tokens",
            r"ReplacedTokens here trains a generator and a discriminator .*Electra; Bert",
        ),
        ("gpt2_small", "multi_task", r"config.model=Gpt2: MaskedLM here trains an encoder"),
    ],
)
def test_a_run_of_two_that_do_not_fit_is_refused_before_anything_is_prepared(model, objective, message):
    run = recipe("masked_lm")
    run.model, run.objective, run.batch_size = MODELS[model], OBJECTIVES[objective], 8
    with pytest.raises(UserError, match=message):
        run.validate()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "replaced_tokens",
            {"fill": ("a [MASK]",)},
            "config.fill: ReplacedTokens with Electra trains no model that",
        ),
        (
            "causal_lm",
            {"fill": ("a [MASK]",)},
            "config.fill: CausalLM with .* trains no model that fills masks",
        ),
        ("contrastive", {"fill": ("a [MASK]",)}, "config.fill: DropoutContrastive with Bert trains no model"),
        ("masked_lm", {"fill": ("a word",)}, r"config.fill\[0\]='a word' has no \[MASK\]"),
        ("replaced_tokens", {"generate": ("a",)}, "config.generate: ReplacedTokens trains no generation"),
        ("masked_lm", {"generate": ("a",)}, "config.generate: MaskedLM trains no generation"),
    ],
)
def test_samples_that_the_trained_model_cannot_make_are_refused(name, changes, message):
    run = recipe(name)
    for field, value in changes.items():
        setattr(run, field, value)
    with pytest.raises(UserError, match=message):
        run.validate()
    run = recipe("masked_lm")
    run.fill = ("a [MASK]", "a <mask>")
    run.validate()


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - {"multi_task"}))
def test_every_objective_has_something_to_learn_from_a_teacher_or_says_that_it_has_not(name):
    objective, config = OBJECTIVES[name], None
    for config in MODELS.values():
        with contextlib.suppress(UserError):
            objective.check_model(config, "config.model")
            break
    soft = SoftTargets(weight=1.0, temperature=2.0, direction="forward", positions="targets")
    made = Distil(of=objective, hard=1.0, terms=(soft,))
    model = build(config, objective.heads(config))
    both = lambda params: Taught(model.bind(params), model.bind(params))
    loss = lambda params, batch: made.loss(both(params), batch, jax.random.key(0))
    try:
        made.check_model(config, "config.model")
        found = jax.eval_shape(loss, model.shapes, fields(objective)).terms
    except UserError as error:
        assert "Fix: " in str(error)
        found = {}
    none = {"Preferences", "CrfTagging", "ReplacedTokens", "DropoutContrastive", "PairContrastive"}
    assert (type(objective).__name__ in none) == (not found)
    weights = made.weights(jax.tree.map(jnp.asarray, fields(objective))) if found else {}
    assert {term for term in found if term.endswith("_soft")} <= weights.keys()
