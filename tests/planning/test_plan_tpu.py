"""Plans through the real TPU compiler: `pytest -m tpu_compile`, which needs the extra `tpu`."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from jaxlm.models.splash_tiles import Seen, by_kernel, sizes
from jaxlm.planning import planned, search, table, targets

pytestmark = [
    pytest.mark.tpu_compile,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install "jaxlm[tpu]"'
    ),
]


def test_bert_on_a_host_sums_its_gradient_over_data_and_fits():
    plan = planned.of(["bert_base_fast", "--config.batch_size=512"], targets.parse("v5e-8"))
    step = plan.stages[plan.tightest].compiled
    assert plan.fits and step.attention == ("xla",)  # 128 keys are too few for a kernel
    assert {one.axes for one in step.collectives} == {("data",)}
    summed = sum(one.bytes for one in step.collectives if one.kind == "all-reduce")
    assert 2 * plan.parameters < summed < 4.5 * plan.parameters  # bfloat16 to float32
    assert "all-reduce over data (8)" in table.text(plan)


def test_llama_7b_fits_a_v5e_pod_as_published_and_gathers_its_weights_twice():
    """FSDP over 256 chips with whole blocks rematerialised; each of 7 matrices of 32 layers forward and backward, and
    the head, in bfloat16."""
    plan = planned.of(["llama_7b"], targets.parse("v5e-256"))
    (stage,) = plan.stages
    assert plan.fits and stage.compiled.peak < 15.75 * 2**30
    gathers = [one for one in stage.compiled.collectives if one.kind == "all-gather"]
    assert sum(one.count for one in gathers) == 2 * 7 * 32 + 1
    embeddings = 32_000 * 4096
    expected = 2 * (2 * (plan.parameters - 2 * embeddings) + embeddings)
    assert sum(one.bytes for one in gathers) == pytest.approx(expected, rel=0.02)
    # Gradients go into parts, along one direction of the 16 x 16 torus and then the other: none is summed whole.
    sent = {
        kind: [one for one in stage.compiled.collectives if one.kind == kind]
        for kind in ("all-reduce", "reduce-scatter")
    }
    assert {one.devices for one in sent["reduce-scatter"]} == {16}
    assert sum(one.bytes for one in sent["reduce-scatter"]) == pytest.approx(expected / 2 * 17 / 16, rel=0.1)
    assert sum(one.bytes for one in sent["all-reduce"]) < 0.03 * expected
    assert stage.times.bound == "compute" and 0.4 < stage.mfu < 0.5
    # What is held is what the compiled program is given, but for the tiles that a TPU pads arrays to.
    assert stage.compiled.arguments == pytest.approx(stage.quick.memory.held, rel=0.01)


def test_what_does_not_fit_is_a_plan_with_what_it_would_take():
    plan = planned.of(["bert_base"], targets.parse("v5e-8"), only=1)
    (stage,) = plan.stages
    assert not plan.fits and stage.capacity == 15.75 * 2**30 < stage.peak
    assert stage.peak == pytest.approx(stage.quick.memory.total, rel=0.25)


def test_what_would_fit_is_found_and_compiled():
    words = ["bert_base_fast", "--config.batch_size=2048"]
    plan = planned.of(words, targets.parse("v5e-8"))
    assert not plan.fits
    (one,) = search.fitting(words, plan, most=1)
    assert one.compiled.fits and one.compiled.peak < 15.75 * 2**30 and one.words


def test_with_full_effort_the_search_goes_on_from_the_fastest_by_the_cycles_of_what_it_compiled():
    words = ["gpt2_small", "--config.batch_size=64", "--config.model.layers=2"]
    plan = planned.of(words, targets.parse("v5e-1"), exact=True)
    _, first = search.best(words, dataclasses.replace(plan, exact=False), most=1)
    ranked, found = search.best(words, plan, most=20)
    assert ranked > len(found) > 1 and all(one.compiled.fits and one.cycles_s for one in found)
    assert [one.seconds for one in found] == sorted(one.seconds for one in found)
    assert any(one.change.get("objective.chunk") == 1024 for one in found)
    assert first[0].cycles_s is None and first[0].change in [one.change for one in found]


def test_moments_in_the_hosts_memory_are_none_of_the_devices_at_the_peak_either():
    """BERT-base by data: at the peak both programs hold the same but for them, so no more than what is under way is there."""
    words = ["bert_base_fast", "--config.batch_size=512", "--config.ema_decay=0.0"]
    here, there = (
        planned.of([*words, f"--config.mesh.optimizer_memory={place}"], targets.parse("v5e-8"))
        for place in ("device", "host")
    )
    held, moved = (plan.stages[0].quick.memory for plan in (here, there))
    moments = held.optimizer - moved.optimizer
    assert moved.host == moments == pytest.approx(2 * held.parameters, rel=1e-3)
    one, other = (plan.stages[0].compiled for plan in (here, there))
    assert other.host == pytest.approx(moments, rel=0.01) and one.host == 0
    assert one.arguments - other.arguments == pytest.approx(moments, rel=0.01)
    assert one.peak - other.peak == pytest.approx(moments, rel=0.02)
    assert "of its memory for each device" in table.text(there)


@pytest.mark.parametrize(("remat", "forward"), [("block", 2), ("attention", 1)])
def test_the_cycles_of_attention_are_those_of_its_kernels_as_often_as_they_run(remat, forward):
    words = [
        "smollm2_135m",
        "--config.batch_size=8",
        "--config.model.layers=3",
        f"--config.model.remat={remat}",
    ]
    words.append("--config.stages=(Stage(length=1024,share=1.0),)")
    (stage,) = planned.of(words, targets.parse("v5e-1"), exact=True).stages
    seen = Seen(np.arange(1024), 1024, None, 0)
    of_head = by_kernel(seen, sizes(seen, 1024, 64, 2, "TPU v5 lite"), 64, "TPU v5 lite")
    assert set(of_head) == {"fwd", "dkv"}  # one tile has all keys
    expected = 3 * 8 * 9 * (forward * of_head["fwd"] + of_head["dkv"])
    assert stage.compiled.attention_cycles == pytest.approx(expected, rel=1e-6)
    assert stage.cycles_s == (stage.compiled.cycles + stage.compiled.attention_cycles) / 1.5e9
