"""Claims about the proof of isolation: attention as it is passes for every family, planted faults are refused by name.

The faults are attention that runs in place of the reference's, and batches that count positions on.
"""

import dataclasses
import itertools
import json
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.batch import Batch
from jaxlm.config import flags
from jaxlm.models import attention as attentions
from jaxlm.models import masks, post_norm
from jaxlm.models import splash as splash_kernel
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.run import inputs
from jaxlm.run.program import Program
from jaxlm.training import isolation, probe, probe_rows, report
from tests.runs import finish

ROOT = pathlib.Path(__file__).parents[2]
REFERENCE = attentions.xla_attention
LENGTH = 256  # two tiles of 128
SMALL = {
    "hidden": 48, "heads": 4, "kv_heads": 2, "head_dim": 12, "embedding": 24, "window": 20, "windows": (0, 9),
    "generator_hidden": 24, "generator_heads": 2,
}  # fmt: skip
FAMILIES = [
    "albert_base", "bart_base", "bert_base", "distilbert_base", "electra_small", "gpt2_small", "llama_7b",
    "modernbert_base", "qwen3_0_6b", "roberta_base", "t5_base", "transformer_base",
]  # fmt: skip


def batch(kind, length=LENGTH, rows=6):
    """Rows of documents of random lengths, with what models of this kind read."""
    rng = np.random.default_rng(0)
    cuts = [sorted({0, *rng.choice(length, 3, replace=False).tolist(), length - 3}) for _ in range(rows)]
    segments, positions = np.zeros((2, rows, length), np.int32)
    for b, bounds in enumerate(cuts):
        for number, (start, end) in enumerate(itertools.pairwise(bounds), 1):
            segments[b, start:end], positions[b, start:end] = number, np.arange(end - start)
    row = {"tokens": rng.integers(500, size=segments.shape, dtype=np.int32), "segments": segments}
    row["positions"] = positions
    given = {f"{name}_BT": value for name, value in row.items()}
    if kind == "encoder_decoder":
        given |= {f"source_{name}_BS": value[:, ::-1] for name, value in row.items()}
        given["source_positions_BS"] = _counted(segments[:, ::-1])
    given["prefix_BT" if kind == "decoder" else "types_BT"] = (positions < 9).astype(np.int32)
    return Batch(**given)


def _counted(segments):
    """Positions of documents in rows that begin anywhere."""
    found = np.zeros_like(segments)
    for b, t in np.ndindex(segments.shape):
        if t and segments[b, t] == segments[b, t - 1]:
            found[b, t] = found[b, t - 1] + 1
    return found


def measured(family="bert_base", precision="float32", mesh=None, real=None):
    """What the probe finds of a small model of the family; of a pair, of its second model."""
    run = flags.load(ROOT / "configs" / f"{family}.py")
    fields = {field.name for field in dataclasses.fields(run.model)}
    run.model = dataclasses.replace(run.model, **{k: v for k, v in SMALL.items() if k in fields})
    run.precision = precision
    mesh = meshes.make(mesh) if mesh else meshes.make(Mesh(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        program = Program.of(run, mesh)
        real = batch(run.model.kind) if real is None else real
        found = [probe.measure(program, one, real, {"xla"}) for one in probe.models(run.model)]
    assert all(one.kernels == ("xla",) for one in found)
    return found[-1]


def refused(found, precision="float32"):
    """What is said of it, or None."""
    worst = found.worst(isolation.tolerance(precision, "cpu"))
    return None if worst is None else worst[0]


# --------------------------------------------------------------------------------------------- attention as it is


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_isolated_far_below_the_tolerance(family):
    found = measured(family)
    assert refused(found) is None
    assert found.replaced.size == found.reached.size == 0.0
    assert 0.0 < found.gradient.size < 1e-5 and 0.0 < found.forward.size < 1e-5


@pytest.mark.parametrize("family", ["bert_base", "llama_7b", "t5_base"])
def test_in_bfloat16_only_the_comparison_with_alone_has_rounding(family):
    found = measured(family, "bfloat16")
    assert refused(found, "bfloat16") is None
    assert found.replaced.size == found.reached.size == 0.0
    assert found.forward.size < 1.5e-2 and found.gradient.size < 1.5e-2


@pytest.mark.parametrize("family", ["bert_base", "t5_base"])
def test_it_runs_sharded_as_the_run_does(family, monkeypatch):
    mesh = Mesh(data=2, fsdp=2, tensor=2)
    assert refused(measured(family, mesh=mesh)) is None
    monkeypatch.setattr(attentions, "xla_attention", leaky(at_an_edge))
    assert refused(measured(family, mesh=mesh)) is not None


# ------------------------------------------------------------------------------------------------- planted faults


def one_key(allowed_BTS):
    """The first key of the row is seen by all."""
    return allowed_BTS.at[:, :, 0].set(True)


def at_an_edge(allowed_BTS):
    """The last key of a tile of 128 is seen by the query behind it, and nothing else is wrong."""
    places_T = jnp.arange(allowed_BTS.shape[1])
    behind_T = (places_T % 128 == 0) & (places_T > 0)
    return allowed_BTS | (behind_T[:, None] & (places_T[:, None] == places_T[None] + 1))


def leaky(fault):
    """Attention in which keys of other documents are seen."""
    return lambda q, k, v, mask, *rest: REFERENCE(q, k, v, _wrong(mask, fault), *rest)


def _wrong(mask, fault):
    mask = masks.materialise(mask)
    return dataclasses.replace(mask, allowed_BTS=fault(mask.allowed_BTS))


def splash(q, k, v, mask, *rest):
    """The TPU's kernel, interpreted."""
    return splash_kernel.attention(q, k, v, mask, interpret=True)


def splash_over_an_edge(q, k, v, mask, *rest):
    """The same, told that the last key of the first tile belongs to the document behind it."""
    seen = mask.segments_BS.at[:, 127].set(mask.segments_BS[:, 128])
    return splash(q, k, v, dataclasses.replace(mask, segments_BS=seen))


def leaky_in_one_pass(fault, *, forward):
    """The same, forward alone or backward alone."""

    @jax.custom_vjp
    def run(q, k, v, mask, *rest):
        return REFERENCE(q, k, v, _wrong(mask, fault) if forward else mask, *rest)

    def ahead(q, k, v, mask, *rest):
        return run(q, k, v, mask, *rest), (q, k, v, mask, rest)

    def back(saved, gradient):
        q, k, v, mask, rest = saved
        seen = mask if forward else _wrong(mask, fault)
        _, pull = jax.vjp(lambda q, k, v: REFERENCE(q, k, v, seen, *rest), q, k, v)
        return (*pull(gradient), None, *(None for _ in rest))

    run.defvjp(ahead, back)
    return run


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("fault", [one_key, at_an_edge])
def test_a_visible_foreign_key_is_refused(fault, precision, monkeypatch):
    monkeypatch.setattr(attentions, "xla_attention", leaky(fault))
    found = measured(precision=precision)
    assert refused(found, precision) == "features change when other documents of the row are replaced"
    assert found.replaced.size > 1e-3 and found.reached.size > 1e-3
    if fault is at_an_edge:
        assert found.replaced.place == 128


def test_the_kernel_of_tpus_is_isolated_and_refused_with_a_fault_at_the_edge_of_a_tile(monkeypatch):
    monkeypatch.setattr(attentions, "xla_attention", splash)
    found = measured("gpt2_small")
    assert refused(found) is None and found.replaced.size == found.reached.size == 0.0
    monkeypatch.setattr(attentions, "xla_attention", splash_over_an_edge)
    found = measured("gpt2_small")
    assert refused(found) is not None and found.replaced.place == 128


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("forward", [True, False])
def test_a_leak_in_one_direction_alone_is_refused(forward, precision, monkeypatch):
    monkeypatch.setattr(attentions, "xla_attention", leaky_in_one_pass(at_an_edge, forward=forward))
    found = measured("gpt2_small", precision)  # a decoder: the key before is the one that could be seen
    words = "features change when" if forward else "gradients of other documents"
    assert words in refused(found, precision)
    assert (found.replaced.size > 1e-3) == forward and (found.reached.size > 1e-3) == (not forward)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_positions_that_a_model_counts_on_are_refused(precision, monkeypatch):
    right = post_norm.Embeddings.__call__
    running = lambda b: dataclasses.replace(
        b, positions_BT=jnp.broadcast_to(jnp.arange(b.tokens_BT.shape[1]), b.tokens_BT.shape)
    )
    monkeypatch.setattr(post_norm.Embeddings, "__call__", lambda self, b: right(self, running(b)))
    found = measured(precision=precision)
    assert refused(found, precision) == "features are not those of the document alone"
    assert found.forward.size > 0.2 and found.replaced.size == 0.0


def test_what_is_not_a_number_is_refused(monkeypatch):
    monkeypatch.setattr(attentions, "xla_attention", lambda *a: REFERENCE(*a).at[:, 130].set(jnp.nan))
    found = measured()
    assert refused(found) is not None and not found.replaced.size <= 1.0


# ----------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("length", [8, 9, 48, 64, 100, 128, 256, 384, 512, 768, 1024, 1536, 2048, 8192])
def test_documents_end_before_on_and_behind_an_edge_and_within_tiles(length):
    rows = probe_rows.probe_rows(batch("encoder", length, rows=2), 4)
    ends = [probe_rows.ends(row) for row in rows[:3]]
    tile = next((t for t in (512, 384, 256, 128) if length % t == 0 and length >= 2 * t), None)
    for offset in (-1, 0, 1) if tile else ():
        assert any(end % tile == offset % tile and 0 < end < length for row in ends for end in row)
    assert all(2 <= row.segments_BT.max() <= 4 for row in rows[:3]) and any(row[-1] == length for row in ends)
    assert not any(probe_rows.misplaced(jax.tree.map(lambda x: x[None], row)) for row in rows)


def test_any_two_documents_of_a_made_row_are_told_apart_both_ways():
    rows = probe_rows.probe_rows(batch("encoder_decoder"), 4)
    packed, *others = probe_rows.cases(rows)
    for side in range(2):
        segments = (packed.batch.source_segments_BS, packed.batch.segments_BT)[side]
        tokens = lambda case, side=side: (case.batch.source_tokens_BS, case.batch.tokens_BT)[side]
        for r in range(3):
            documents = range(1, int(segments[r].max()) + 1)
            for one in documents:
                for other in {*documents, 0} - {one}:
                    kept = lambda case, n, r=r, side=side, s=segments: case.kept[side][r][s[r] == n]
                    found = [c for c in others if c.exact and kept(c, one).all() and not kept(c, other).any()]
                    assert found, (r, one, other)
                    replaced = segments[r] == other
                    assert (tokens(found[0])[r] != tokens(packed)[r])[replaced].all()
                    assert (tokens(found[0])[r] == tokens(packed)[r])[segments[r] == one].all()


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "tests/recipes/objectives").glob("*.py")))
def test_rows_of_every_objective_count_positions_anew_and_are_probed(name, corpus, tmp_path_factory):
    run = flags.load(ROOT / f"tests/recipes/objectives/{name}.py")
    run.data.corpus, run.data.cache = corpus, str(tmp_path_factory.getbasetemp() / "objectives")
    run.data.validation_share, run.tokenizer.vocab_size = 0.2, 701
    text, stage = inputs.text(run, lambda _: None), run.stages[0]
    (read,) = inputs.rows(run, text, stage, "train")
    span = report.Span(stage, 0, 0, run.steps, 0)
    first = isolation._first_batch(types.SimpleNamespace(text=text), read, span)
    *made, real = probe_rows.probe_rows(first, 4)
    assert real.segments_BT.max() > 0 and all(row.segments_BT.max() > 1 for row in made)
    for case in probe_rows.cases([*made, real]):
        shapes = lambda batch: {k: v.shape[1:] for k, v in vars(batch).items() if isinstance(v, np.ndarray)}
        assert shapes(case.batch) == shapes(first) and case.batch.most_segments == first.most_segments


# ----------------------------------------------------------------------------------------------------- whole runs

LEAKY = """
import sys
sys.path.insert(0, {recipes!r})
sys.path.insert(0, {root!r})
import dataclasses
import numpy as np
import tiny
from jaxlm.config import Stage
from jaxlm.objectives.masked_lm import MaskedLM
from tests.training import test_isolation as planted

class CountsOn(MaskedLM):
    def prepare(self, row, vocabulary, rng, *, train):
        batch = super().prepare(row, vocabulary, rng, train=train)
        return dataclasses.replace(batch, positions_BT=np.arange(len(row.tokens_T), dtype=np.int32))

def get_config():
    run = tiny.get_config()
    run.check_isolation, run.steps = True, 2
    run.stages = (Stage(length=32, share=1.0),)
    {fault}
    return run
"""


def recipe(folder, fault):
    path = folder / "leaky.py"
    path.write_text(LEAKY.format(recipes=str(ROOT / "tests/recipes"), root=str(ROOT), fault=fault))
    return str(path)


def test_a_run_with_a_leaking_kernel_takes_no_step_and_names_it(train_command, tmp_path):
    leaking = recipe(tmp_path, "planted.attentions.xla_attention = planted.leaky(planted.one_key)")
    output = finish(train_command(tmp_path / "run", recipe=leaking), 70)
    assert (
        "numerical failure: documents packed into one row see each other. Kernel xla, float32, rows of 32:"
        in output
    )
    assert "--config.check_isolation=false" in output and "step 1/" not in output
    (line,) = [json.loads(line) for line in (tmp_path / "run/isolation.jsonl").read_text().splitlines()]
    assert not line["passed"] and line["kernels"] == ["xla"] and line["replaced"] > 1e-3
    finish(train_command(tmp_path / "run", "--config.check_isolation=false", recipe=leaking))


def test_a_run_whose_batches_count_positions_on_is_refused(train_command, tmp_path):
    fault = "run.objective = CountsOn(**vars(run.objective))"
    output = finish(train_command(tmp_path / "run", recipe=recipe(tmp_path, fault)), 78)
    assert "error: config.objective: in the first batch of stage 0, document 2 of row" in output
    assert "positions count from 0 in every document. Fix: `prepare` of CountsOn." in output
