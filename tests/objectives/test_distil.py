"""Claims about distillation: every loss is that of an independent reference, on any mesh, in chunks and micro-batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from jaxlm.batch import Batch
from jaxlm.config import taught
from jaxlm.errors import UserError
from jaxlm.models import cost, observed
from jaxlm.models.build import build
from jaxlm.models.taught import Taught
from jaxlm.objectives import distil_attention as attention
from jaxlm.objectives import distil_layers as layers
from jaxlm.objectives.causal_lm import CausalLM
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.distil import Distil, SoftTargets
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.multi_label import LabelsTargets, MultiLabel
from jaxlm.objectives.question_answering import AnswerTargets, QuestionAnswering
from jaxlm.objectives.targets import ItemTargets, TokenTargets
from jaxlm.partition import state as partition
from jaxlm.planning import memory
from jaxlm.run.program import TEACHER
from jaxlm.training import report
from tests.views import programs
from tests.views.programs import BERT, LLAMA

SOFT = SoftTargets(weight=2.0, temperature=1.5, direction="forward", positions="targets")
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 2, 2, 2, 2]], np.int32)
B, T = SEGMENTS.shape
CLOSE = {"rtol": 2e-4, "atol": 2e-6}


def packed(targets=None, **more):
    """Two items a row, the last token of the first row is padding."""
    rng = np.random.default_rng(0)
    places = np.array([[0, 1, 2, 0, 1, 0], [0, 1, 0, 1, 2, 3]], np.int32)
    ids = rng.integers(1, BERT.vocab_size, (B, T)).astype(np.int32)
    zeros = np.zeros((B, T), np.int32)
    return Batch(
        tokens_BT=ids, segments_BT=SEGMENTS, positions_BT=places, types_BT=zeros, targets=targets, **more
    )


def items():
    return ItemTargets(
        first_BC=np.array([[0, 3, 0], [0, 2, 0]], np.int32),
        labels_BC=np.array([[0, 1, 0], [1, 1, 0]], np.int32),
        weights_BC=np.array([[1, 1, 0], [1, 1, 0]], np.float32),
        start_B=np.ones(B, np.int32),
    )


def classes(kind=Classification, **more):
    return kind(
        column="x", labels=("a", "b", "c"), texts=1, pooling="own", max_tokens=9, items_per_row=3, **more
    )


def pair(objective, student, teacher, seed=0):
    """(models, drawn weights) of both, the student's with the heads of what is compared."""
    models = [build(student, objective.heads(student)), build(teacher, objective.teacher_heads(teacher))]
    drawn = [jax.jit(m.init)(jax.random.key(seed + i)) for i, m in enumerate(models)]
    return models, [jax.tree.map(lambda a: a * 3.0, one) for one in drawn]


def terms(objective, batch, student=BERT, teacher=BERT):
    (ours, theirs), (w, v) = pair(objective, student, teacher)
    model = lambda w: Taught(ours.bind(w), theirs.bind(v))
    loss = jax.jit(lambda w: objective.loss(model(w), batch, jax.random.key(0)))(w)
    return loss, (ours.bind(w), theirs.bind(v))


def test_soft_classes_are_those_of_torch_and_soft_labels_those_of_their_definition():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 5)) * 3
    for direction, (p, q) in {"forward": (b, a), "reverse": (a, b)}.items():
        apart = Divergence(temperature=2.5, direction=direction)
        log_p, log_q = (functional.log_softmax(torch.tensor(x) / 2.5, -1) for x in (p, q))
        expected = 2.5**2 * functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
        np.testing.assert_allclose(apart.of_classes(a, b), expected.numpy(), rtol=1e-4)
        p, q = (1 / (1 + np.exp(-x / 2.5)) for x in (p, q))
        expected = 2.5**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)
        np.testing.assert_allclose(apart.of_labels(a, b), expected, rtol=1e-4)


def test_what_a_classifier_learns_is_its_loss_and_the_soft_one_in_their_weights():
    objective = Distil(of=classes(), hard=0.25, terms=(SOFT,))
    loss, (student, teacher) = terms(objective, packed(items()))
    said, taught_ = (
        jax.jit(lambda m=m: objective.of.predict(m, packed(items()), None)["classes"]())()
        for m in (student, teacher)
    )
    real = items().weights_BC > 0
    expected = SOFT.temperature**2 * functional.kl_div(
        functional.log_softmax(torch.tensor(np.array(said)[real]) / 1.5, -1),
        functional.softmax(torch.tensor(np.array(taught_)[real]) / 1.5, -1),
        reduction="sum",
    )
    np.testing.assert_allclose(loss.measures["classes_soft"][0], expected, **CLOSE)
    np.testing.assert_allclose(loss.terms["classes_soft"][0], 2.0 * expected.numpy(), **CLOSE)
    np.testing.assert_allclose(loss.terms["classes"][0], 0.25 * loss.measures["classes_loss"][0], **CLOSE)
    weights = objective.weights(packed(items()))
    assert {name: float(w) for name, w in weights.items()} == {"classes": 4.0, "classes_soft": 4.0}


def test_labels_and_answers_have_soft_targets_of_their_own():
    labels = LabelsTargets(
        first_BC=items().first_BC, labels_BCK=np.zeros((B, 3, 3), "f"), weights_BC=items().weights_BC
    )
    objective = Distil(of=classes(MultiLabel), hard=0.0, terms=(SOFT,))
    loss, models = terms(objective, packed(labels))
    a, b = (np.array(objective.of.predict(m, packed(labels), None)["classes"]())[:, :2] for m in models)
    p, q = (1 / (1 + np.exp(-x / 1.5)) for x in (b, a))
    expected = 1.5**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1).sum()
    np.testing.assert_allclose(loss.terms["classes_soft"][0], 2.0 * expected, rtol=1e-3)
    assert set(loss.terms) == {"classes_soft"}

    spans = AnswerTargets(places_BC2=np.zeros((B, 3, 2), np.int32), weights_BC=items().weights_BC)
    of = QuestionAnswering(
        column="x", no_answer=False, max_tokens=6, overlap=0, question_tokens=2, items_per_row=3
    )
    objective = Distil(of=of, hard=0.0, terms=(SOFT,))
    loss, models = terms(objective, packed(spans))
    a, b = (np.array(of.predict(m, packed(spans), None)["span"], np.float64) / 1.5 for m in models)
    expected = 0.0
    for row, number, end in np.ndindex(B, 2, 2):
        own = SEGMENTS[row] == number + 1
        p, q = (np.exp(x[row, own, end]) / np.exp(x[row, own, end]).sum() for x in (b, a))
        expected += 1.5**2 * (p * np.log(p / q)).sum() / 2
    np.testing.assert_allclose(loss.measures["span_soft"][0], expected, rtol=1e-3)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_logits_of_a_vocabulary_are_compared_in_chunks_as_at_once(direction):
    soft = dataclasses.replace(SOFT, direction=direction)
    batch = programs.batch("llama")
    found = []
    for chunk in (0, 5):
        of = CausalLM(z_loss=0.0, label_smoothing=0.0, chunk=chunk)
        objective = Distil(of=of, hard=1.0, terms=(soft,))
        (ours, theirs), (w, v) = pair(objective, LLAMA, dataclasses.replace(LLAMA, layers=3))

        def total(w, objective=objective, ours=ours, teacher=theirs, v=v):
            loss = objective.loss(Taught(ours.bind(w), teacher.bind(v)), batch, jax.random.key(0))
            return sum(s for s, _ in loss.terms.values()), loss.measures

        found.append(jax.jit(jax.value_and_grad(total, has_aux=True))(w))
    said, taught_ = (
        np.array(of.predict(m.bind(x), batch, None)["lm"](), np.float64) for m, x in ((ours, w), (theirs, v))
    )
    log_p, log_q = (x / 1.5 - np.log(np.exp(x / 1.5).sum(-1, keepdims=True)) for x in (taught_, said))
    p, q = (log_p, log_q) if direction == "forward" else (log_q, log_p)
    np.testing.assert_allclose(found[0][0][1]["lm_soft"][0], 1.5**2 * (np.exp(p) * (p - q)).sum(), rtol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), *found)


@pytest.mark.parametrize(
    "how", [{"layer_loop": "scan"}, {"layer_loop": "unrolled"}, {"layer_loop": "scan", "remat": "block"}]
)
def test_layers_hand_on_what_they_computed_however_they_are_run(how):
    config = dataclasses.replace(BERT, **how)
    model = build(config)
    module = model.bind(jax.jit(model.init)(jax.random.key(0)))
    at = np.zeros((B, 1), np.int32)

    def run(module):
        with observed.asking("states", "queries"):
            return module.encode(packed(), None, at_BM=at)

    found, plain = jax.jit(run)(module), module.encode(packed(), None)
    assert plain.layers is None
    np.testing.assert_allclose(found.layers["states"][-1], plain.x_BTD, **CLOSE)
    np.testing.assert_allclose(found.x_BTD, plain.x_BTD[:, :1], **CLOSE)
    first = jax.tree.map(lambda a: a[0], module.blocks)
    np.testing.assert_allclose(
        found.layers["queries"][0], first.attention.queries(module.embed(packed())), **CLOSE
    )


def test_states_are_compared_by_cosine_or_squares_through_a_projection_where_widths_differ():
    wide = dataclasses.replace(BERT, hidden=2 * BERT.hidden, layers=2 * BERT.layers)
    term = layers.HiddenStates(
        weight=1.0, loss="squares", layers="uniform", embeddings=True, teacher_width=wide.hidden
    )
    objective = Distil(of=classes(), hard=0.0, terms=(term,))
    objective.check_teacher(BERT, wide, "config.teacher=x")
    loss, (student, teacher) = terms(objective, packed(items()), teacher=wide)
    w = np.array(student.heads["to_teacher_states"].w[...], np.float64)
    with observed.asking("states"):
        ours, theirs = (np.array(m.encode(packed()).layers["states"], np.float64) for m in (student, teacher))
    real, step = SEGMENTS > 0, wide.layers // BERT.layers
    pairs = [(ours[m], theirs[step * (m + 1) - 1]) for m in range(BERT.layers)]
    pairs.append(tuple(np.array(m.embed(packed())) for m in (student, teacher)))
    expected = sum((((x @ w - y) ** 2).mean(-1) * real).sum() for x, y in pairs)
    np.testing.assert_allclose(loss.terms["states"][0], expected, rtol=1e-3)
    assert float(objective.weights(packed(items()))["states"]) == real.sum() == float(loss.terms["states"][1])

    cosine = dataclasses.replace(term, loss="cosine", layers="last", embeddings=False, teacher_width=0)
    loss, models = terms(Distil(of=classes(), hard=0.0, terms=(cosine,)), packed(items()))
    x, y = (torch.tensor(np.array(m.encode(packed()).x_BTD)[real]) for m in models)
    expected = functional.cosine_embedding_loss(x, y, torch.ones(len(x)), reduction="sum")
    np.testing.assert_allclose(loss.terms["states"][0], expected, **CLOSE)


def test_relations_and_scores_are_those_of_torch_and_see_no_other_item():
    wide = dataclasses.replace(BERT, hidden=2 * BERT.hidden)
    pairs = (("queries", "keys"), ("values", "values"))
    term = attention.Relations(weight=1.0, pairs=pairs, relation_heads=BERT.heads, teacher_layer=1)
    scores = attention.AttentionScores(weight=1.0, layers="last")
    loss, models = terms(Distil(of=classes(), hard=0.0, terms=(term, scores)), packed(items()), teacher=wide)
    with observed.asking("queries", "keys", "values"):
        ours, theirs = (jax.tree.map(np.array, m.encode(packed()).layers) for m in models)

    def products(found, one, other):
        a, b = (torch.tensor(found[name][-1]).transpose(1, 2).double() for name in (one, other))
        return a @ b.transpose(-1, -2) / a.shape[-1] ** 0.5

    related, squared = 0.0, 0.0
    for row in range(B):
        for number in (1, 2):
            own = np.flatnonzero(SEGMENTS[row] == number)
            of = lambda found, pair, row=row, own=own: products(found, *pair)[row][:, own][:, :, own]
            for pair_ in pairs:
                log_q, p = of(ours, pair_).log_softmax(-1), of(theirs, pair_).softmax(-1)
                related += float(functional.kl_div(log_q, p, reduction="none").sum(-1).mean(0).sum())
            squared += float(((of(ours, pairs[0]) - of(theirs, pairs[0])) ** 2).mean(0).mean(-1).sum())
    np.testing.assert_allclose(loss.terms["relations"][0], related, rtol=1e-3)
    np.testing.assert_allclose(loss.terms["attention"][0], squared, rtol=1e-3)


def test_every_token_of_masked_lm_is_compared_while_targets_alone_are_learnt():
    rng, of = np.random.default_rng(0), programs.run("bert").objective
    wanted = TokenTargets(
        ids_BM=rng.integers(1, BERT.vocab_size, (B, 3)).astype(np.int32),
        weights_BM=np.array([[1, 1, 0], [1, 0, 0]], np.float32),
        places_BM=np.array([[1, 3, 0], [5, 0, 0]], np.int32),
    )
    soft = dataclasses.replace(SOFT, positions="all")
    objective = Distil(of=of, hard=1.0, terms=(soft,))
    loss, (student, teacher) = terms(objective, packed(wanted))
    alone = of.loss(student, packed(wanted), None)
    np.testing.assert_allclose(loss.terms["mlm"], alone.terms["mlm"], **CLOSE)
    a, b = (
        torch.tensor(np.array(m.predict_tokens(m.encode(packed()).x_BTD))).double()
        for m in (student, teacher)
    )
    each = functional.kl_div((a / 1.5).log_softmax(-1), (b / 1.5).softmax(-1), reduction="none").sum(-1)
    expected = 1.5**2 * float(each[torch.tensor(SEGMENTS > 0)].sum())
    np.testing.assert_allclose(loss.measures["mlm_soft"][0], expected, rtol=1e-3)
    assert float(objective.weights(packed(wanted))["mlm_soft"]) == (SEGMENTS > 0).sum()


def test_vectors_are_the_means_of_items():
    term = layers.Vectors(weight=1.0, loss="cosine", pooling="mean", teacher_width=0)
    objective = Distil(of=classes(), hard=0.0, terms=(term,))
    loss, models = terms(objective, packed(items()))
    x, y = (np.array(m.encode(packed()).x_BTD, np.float64) for m in models)
    expected = 0.0
    for row, number in np.ndindex(B, 2):
        u, v = (z[row][SEGMENTS[row] == number + 1].mean(0) for z in (x, y))
        expected += 1 - u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    np.testing.assert_allclose(loss.terms["vectors"][0], expected, **CLOSE)
    assert float(objective.weights(packed(items()))["vectors"]) == 4.0 == float(loss.terms["vectors"][1])


TAUGHT = dataclasses.replace(BERT, layers=4)


def _trained(accumulate=1, precision="float32", **axes):
    base = programs.run("bert")
    objective = Distil(of=dataclasses.replace(base.objective, chunk=5), hard=1.0, terms=(SOFT,))
    run = dataclasses.replace(
        base,
        objective=objective,
        teacher="hf:x",
        teacher_model=TAUGHT,
        accumulate=accumulate,
        teacher_precision=precision,
    )
    program = programs.program(run, **axes)
    key = jax.random.key(0)
    weights = jax.tree.map(
        lambda a, s: jnp.asarray(3 * a, s.dtype), jax.jit(program.teacher.init)(key), program.frozen[TEACHER]
    )
    params = jax.jit(program.model.init)(jax.random.key(1))
    where = lambda abstract: jax.tree.map(lambda leaf: leaf.sharding, abstract)
    with jax.set_mesh(program.mesh):
        state, frozen = program.start(jax.device_put(params, where(program.params)))
        frozen = {**frozen, TEACHER: jax.device_put(weights, where(program.frozen[TEACHER]))}
        step, means = program.train_step(), []
        for seed in range(2):
            data = jax.device_put({"": programs.batch("bert", seed)}, partition.batch_sharding(program.mesh))
            state, measures = step(state, frozen, data)
            means.append({k: float(s) / float(w) for k, (s, w) in jax.device_get(measures).items()})
        held_out = program.eval_step()(program.evaluated(state), {}, data)  # needs no teacher
    assert set(held_out) == {"loss/mlm", "mlm_loss", "mlm_accuracy"}
    return program, jax.device_get(state.params), means


@pytest.fixture(scope="module")
def on_one_device():
    return _trained()


def test_micro_batches_train_what_one_batch_does(on_one_device):
    _assert_near(on_one_device, _trained(accumulate=2))


def test_a_mesh_trains_what_one_device_does_with_the_teacher_in_parts(on_one_device):
    made = _trained(fsdp=4, tensor=2)
    _assert_near(on_one_device, made)
    specs = [leaf.sharding.spec for leaf in jax.tree.leaves(made[0].frozen[TEACHER])]
    assert any("fsdp" in spec for spec in specs) and any("tensor" in spec for spec in specs)


def test_a_teacher_in_bfloat16_is_half_as_large_and_says_nearly_the_same(on_one_device):
    program, _, means = _trained(precision="bfloat16")
    size = lambda one: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one.frozen[TEACHER]))
    assert 2 * size(program) == size(on_one_device[0])
    assert means[0]["mlm_soft"] == pytest.approx(on_one_device[2][0]["mlm_soft"], rel=0.05)


def _assert_near(one, other):
    for a, b in zip(one[2], other[2], strict=True):
        assert {k: a[k] for k in a if k.startswith(("mlm", "loss"))} == pytest.approx(
            {k: b[k] for k in a if k.startswith(("mlm", "loss"))}, rel=1e-3
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-4), one[1], other[1])


@pytest.mark.parametrize(
    ("term", "teacher", "said"),
    [
        (layers.HiddenStates, {"hidden": 2 * BERT.hidden}, f"teacher_width={2 * BERT.hidden}"),
        (layers.HiddenStates, {"layers": 2 * BERT.layers + 1}, "do not divide by"),
        (attention.AttentionScores, {"heads": 2 * BERT.heads}, "Relations(...)"),
        (attention.Relations, {"layers": 1}, "teacher_layer=2"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_can(term, teacher, said):
    given = {
        "weight": 1.0, "loss": "squares", "layers": "uniform", "embeddings": False, "teacher_width": 0,
        "pairs": (("values", "values"),), "relation_heads": 2, "teacher_layer": 2,
    }  # fmt: skip
    names = {field.name for field in dataclasses.fields(term)}
    made = term(**{name: value for name, value in given.items() if name in names})
    with pytest.raises(UserError) as caught:
        made.check(classes(), BERT, dataclasses.replace(BERT, **teacher), "config.objective.terms[0]")
    assert said in str(caught.value) and "config.objective.terms[0]" in str(caught.value)


def test_layers_are_chosen_as_published_or_by_number():
    assert taught.chosen("spread", 12, 6) == [0, 2, 4, 7, 9, 11]  # transformers' script for DistilBERT
    assert list(taught.chosen("first", 6, 3)) == [0, 1, 2] and list(taught.chosen("last", 6, 3)) == [3, 4, 5]
    assert taught.chosen("1,3", 4, 2) == [1, 3]
    for how, have, want in (("first", 2, 3), ("0,1", 4, 3), ("0,4", 4, 2)):
        with pytest.raises(UserError, match="config.init_layers"):
            taught.chosen(how, have, want)


def test_the_teacher_is_counted_in_memory_and_work(on_one_device):
    program, batch = on_one_device[0], {"": programs.batch("bert")}
    weights = sum(leaf.size for leaf in jax.tree.leaves(program.teacher.shapes))
    assert memory.held(program.frozen) == 4 * weights
    of = program.run.objective.of
    alone = dataclasses.replace(program.run, objective=of, teacher="", teacher_model=None)
    more = report.flops(program, batch) - report.flops(programs.program(alone), batch)
    said = lambda params, batch: of.predict(program.teacher.bind(params), batch, None)["mlm"]().sum()
    passed = cost.forward_flops(said, program.teacher.shapes, batch[""])
    assert passed <= more < 2 * passed  # the student's own logits are made once more
