"""The benchmarks run, on a recipe of seconds, and compare equal work."""

import importlib
import re
import sys

import pytest

from tests.tools.started import ROOT, started

SMALL = ("--rounds=1", "--block=1", "--compile=off", "--batch_size=2", "--row_length=24")
SMALL += ("--pipeline_batch_size=3", "--pipeline_row_length=40")


@pytest.mark.parametrize("part", ["raw", "pipeline"])
def test_contenders_do_the_work_that_was_asked_for(part, corpus, tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "page.md"
    words = ("tools/benchmark.py", "tests/recipes/tiny.py", f"--corpus={corpus}", f"--part={part}")
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
