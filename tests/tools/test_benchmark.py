"""The benchmarks run, on a recipe of seconds, and compare equal work."""

import argparse
import dataclasses
import importlib
import itertools
import re
import sys

import jax
import numpy as np
import pytest

from jaxlm.config import flags
from jaxlm.models.build import build
from tests.tools.started import ROOT, started

SMALL = ("--rounds=1", "--block=1", "--compile=off", "--batch_size=2", "--row_length=24")
SMALL += ("--pipeline_batch_size=3", "--pipeline_row_length=40")


@pytest.mark.parametrize("part", ["raw", pytest.param("pipeline", marks=pytest.mark.slow)])
def test_contenders_do_the_work_that_was_asked_for(part, corpus, tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "page.md"
    words = ("tools/benchmark.py", "tests/recipes/tiny.py", f"--corpus={corpus}", f"--part={part}")
    if part == "raw":
        words += ("--dropout=0",)  # then the first losses must be equal
    table = started(*words, *SMALL, f"--output={output}", cache=tmp_path / "cache")
    assert output.read_text() in table
    lines = [line.split("|") for line in table.splitlines() if re.match(r"\| (jaxlm|transformers) ", line)]
    assert len(lines) == 3
    if part == "pipeline":
        useful = [float(line[3]) for line in lines]
        assert 0.9 * 3 * 40 <= useful[0] <= useful[1] == 3 * 40 > useful[2]


@pytest.fixture(scope="module")
def benchmark():
    pytest.importorskip("torch")
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("benchmark")
    sys.path.remove(str(ROOT / "tools"))


def test_other_work_than_asked_for_or_than_the_peer_s_is_an_error(benchmark):
    of = lambda name, *shapes: benchmark.Result(
        name, [1.0] * len(shapes), [benchmark.sides.Step(9.0, 7.0, rows, length) for rows, length in shapes]
    )
    ours, short = of("jaxlm, packed", (4, 32), (4, 32)), of("transformers, one document a row", (4, 30))
    benchmark.check_work([ours, of("transformers", (4, 32)), short], 4)
    for other in (
        of("transformers", (4, 31)),
        of("transformers", (4, 32), (8, 32)),
        of("one document", (4, 33)),
    ):
        with pytest.raises(RuntimeError, match="all must be 4 of 32"):
            benchmark.check_work([ours, other], 4)
    with pytest.raises(
        RuntimeError, match="jaxlm, packed: a step of 4 rows of 32 tokens; all must be 256 of 32"
    ):
        benchmark.check_work([ours], 256)


def test_another_first_loss_than_the_peer_s_is_an_error(benchmark):
    of = lambda name, loss: benchmark.Result(name, first_loss=loss)
    ours = of("jaxlm float32", 7.0)
    half = of("jaxlm bfloat16", 7.1)
    benchmark.check_losses([half, ours, of("transformers float32", 7.0003)])
    for name, loss in (("float32", 7.01), ("bfloat16 autocast", 7.3), ("float32", float("nan"))):
        with pytest.raises(RuntimeError, match="not the same work"):
            benchmark.check_losses([half, ours, of(f"transformers {name}", loss)])


FAMILIES = {
    "roberta": "masked_lm",
    "albert": "masked_lm",
    "distilbert": "masked_lm",
    "modernbert": "masked_lm",
}
FAMILIES |= {"gpt2": "causal_lm", "llama": "causal_lm", "t5": "span_corruption", "bart": "denoising"}


@pytest.mark.slow  # a corpus and a tokenizer for each; BERT is the gate's
@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_step_of_every_family_has_the_peer_s_loss(family, benchmark, corpus, tmp_path):
    run = flags.load(ROOT / "tests" / "recipes" / "objectives" / f"{FAMILIES[family]}.py")
    run.data.corpus, run.data.cache, run.data.validation_share = corpus, str(tmp_path), 0.1
    config = importlib.import_module(f"tools.parity.cases.{family}").CASES[0].config
    sizes = {"vocab_size": run.model.vocab_size, "max_positions": 64}
    names = {field.name for field in dataclasses.fields(config)}
    run.model = dataclasses.replace(config, **{k: v for k, v in sizes.items() if k in names})
    shapes = {"batch_size": 2, "row_length": 24, "pipeline_batch_size": 2, "pipeline_row_length": 24}
    bench = benchmark.sides.Bench(run, argparse.Namespace(**shapes, compile="off"))
    names = ("jaxlm float32", "transformers float32")
    ours, theirs = (bench.make(name).step() for name in names)
    benchmark.check_losses(
        [benchmark.Result(n, first_loss=s.loss) for n, s in zip(names, (ours, theirs), strict=True)]
    )
    assert ours[1:] == theirs[1:]


def test_documents_one_after_another_give_the_peer_the_loss_of_each_alone(benchmark, monkeypatch):
    """The kernel needs a GPU: here a loop over the documents stands for it."""
    torch = pytest.importorskip("torch")
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    flattened, peers = benchmark.sides.flattened, benchmark.sides.peers

    def loop(q, k, v, ends, _, longest, __, *, scale):
        attend = torch.nn.functional.scaled_dot_product_attention
        spans = [slice(a, b) for a, b in itertools.pairwise(ends)]
        each = [
            attend(*(x[s].transpose(0, 1) for x in (q, k, v)), scale=scale).transpose(0, 1) for s in spans
        ]
        assert max(map(len, each)) <= longest
        return torch.cat(each)

    monkeypatch.setattr(varlen, "varlen_attn", loop)
    run = flags.load(ROOT / "tests" / "recipes" / "tiny.py")
    run.model.dropout = 0.0
    model = build(run.model, run.heads)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0)))
    documents = [np.random.default_rng(n).integers(5, 500, n) for n in (5, 9, 12, 7)]
    collate = lambda rows: dict.fromkeys(("input_ids", "labels"), torch.from_numpy(np.stack(rows)))
    batch = next(flattened.batches(documents, 2, 16, collate))
    assert batch.pop("rows") == 2 and batch["input_ids"].shape == (1, 32)
    ends, plain = batch["cu_seq_lens_q"].tolist(), peers.peer(run, params)
    with torch.no_grad():
        found = peers.peer(run, params, flattened.register())(**batch).loss
        alone = [batch["input_ids"][:, a:b] for a, b in itertools.pairwise(ends)]
        sums = [float(plain(input_ids=ids, labels=ids).loss) * ids.numel() for ids in alone]
    assert len(sums) >= 3
    np.testing.assert_allclose(found, sum(sums) / 32, rtol=1e-5)
