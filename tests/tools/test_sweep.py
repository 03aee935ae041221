"""Claims about the tools that compare what the compiler makes: options of a step, tiles of a kernel."""

import re

import numpy as np
import pytest

from jaxlm.models.splash_tiles import COSTS, Cost
from jaxlm.planning import compiled
from jaxlm.planning.targets import parse
from tools import splash_tiles, sweep
from tools.sweep import Candidate

TINY = "tests/recipes/tiny.py"


def test_every_candidate_is_added_or_taken_away_and_the_project_s_own_come_first():
    ours = {
        "xla_enable_async_all_reduce": True,
        "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": True,
    }
    names = {way.name: way.options for way in sweep.ways("tpu", {**ours, "xla_other": True})}
    assert list(names)[:2] == ["as jaxlm compiles", "no options"]
    (without,) = [options for name, options in names.items() if name.startswith("without")]
    assert without == {"xla_other": True} and names["no options"] == {}
    added = [options for name, options in names.items() if name.startswith("with ")]
    assert len(added) == len(sweep.CANDIDATES["tpu"]) - 1
    assert all(options.items() > ours.items() for options in added)
    few = sweep.ways("tpu", ours, "vmem")
    assert [way.options.get("xla_tpu_scoped_vmem_limit_kib") for way in few] == [None, None, 32768, 98304]
    assert sweep.ways("cpu", {})[1].name.startswith("with ")  # nothing to leave out


def test_programs_are_compared_by_speed_and_losses_and_refusals_are_said(corpus, tmp_path, monkeypatch):
    tried = Candidate({"xla_cpu_enable_fast_min_max": True}, ""), Candidate({"xla_cpu_of_tomorrow": 1}, "")
    monkeypatch.setattr(sweep, "CANDIDATES", {"cpu": tried})
    words = [TINY, f"--config.data.corpus={corpus}", f"--config.data.cache={tmp_path}"]
    said = list(sweep.table(words, "", only="", rounds=2, block=1))
    assert len(said) == 2 + 3 and "8 x cpu" in said[0]
    losses = re.search(r"1\.000× \| 1\.000 to 1\.000 \| ([\d. ]+) \|$", said[2])
    assert losses and len(losses[1].split()) == sweep.FIRST and 3 < float(losses[1].split()[0]) < 10
    assert said[3].startswith("| with xla_cpu_enable_fast_min_max=true |") and "the same" in said[3]
    assert re.match(r"\| with xla_cpu_of_tomorrow=1 \| refused \|.*No such compile option", said[4])


@pytest.mark.tpu_compile
@pytest.mark.timeout(600)
@pytest.mark.skipif(not compiled.available(), reason='needs libtpu: pip install "jaxlm[tpu]"')
def test_programs_for_a_machine_that_is_not_here_are_compared_by_what_the_compiler_says(monkeypatch):
    tried = Candidate({"xla_tpu_rwb_fusion": False}, ""), Candidate({"xla_tpu_of_tomorrow": 1}, "")
    monkeypatch.setattr(sweep, "CANDIDATES", {"tpu": tried})
    said = list(sweep.table([TINY], "v5e-4", only="", rounds=1, block=1))
    assert len(said) == 2 + 4 and said[2].count("(1.000)") == 5
    assert float(said[2].split("|")[2].split()[0]) > 0 and "No such compile option" in said[5]


BUNDLES = """= control target key start

   0x1   :  { %s1 = smov 0 } /* Start region 1 */
   0x2 LB: > { %2 = sst [smem:[#x]] %s1 }
   0x3   : > { %3 = sbr.rel (%p1) target = $region4 }
   0x4   : > { %v4 = vmatmul.bf16.gmra.mxu0 %v1  ;;  %v5 = vmatmul.bf16.gmra.mxu1 %v1 }
   0x5   : > { %v6 = vmatmul.f32.gmra.mxu0 %v1 /* a comment
of two lines */ }
   0x6 PF: > { %7 = sbr.rel (%p1) target = $region5 } /* Start/End empty region 4 */
STORES
   0x8 PF: > { %s8 = sadd.s32 1, %s1 } /* Start region 5 */
   0x9   : > { %9 = sbr.rel (!%p2) target = $region1 }
   0xa   :  { %10 = vsyncpa [#x], 1 }
"""


def test_bundles_are_told_apart_by_what_is_jumped_over():
    text = BUNDLES.replace(
        "STORES", "\n".join(f"   0x7{i:x}   : > {{ %x = vst [vmem:{i}] %v }}" for i in range(9))
    )
    # Unit 0 takes 16 rows and 8, one a cycle, longer than its two bundles; at twelve a cycle the bundles are longer.
    assert splash_tiles.counted(text, 1) == splash_tiles.Counted(step=5, tile=24, line=9)
    assert splash_tiles.counted(text, 12).tile == 2
    with pytest.raises(ValueError, match="no loop"):
        splash_tiles.counted("   0x1   :  { nothing }", 1)


def test_a_cost_is_found_again_from_what_its_tiles_take():
    true = COSTS["TPU v5 lite"]["forward"]
    area = lambda q, kv: q * kv / 128**2
    found = {
        (q, kv): splash_tiles.Counted(
            276, round(true.fill + true.square * area(q, kv)), round(true.line * q / 128)
        )
        for q in splash_tiles.TILES
        for kv in splash_tiles.TILES
    }
    fitted: Cost = splash_tiles.fitted("forward", found, parse("v5e-1"))
    np.testing.assert_allclose(
        [fitted.step, fitted.fill, fitted.square, fitted.line],
        [276, true.fill, true.square, true.line],
        rtol=0.01,
    )


def test_what_the_costs_choose_is_a_table():
    lines = "\n".join(splash_tiles.choices((512, 8192))).splitlines()[2:]
    assert len(lines) == 4 * len(COSTS)
    assert all(float(line.split("|")[-2]) < 1 for line in lines)
