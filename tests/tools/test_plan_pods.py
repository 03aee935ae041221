"""The table of pods: a line for every row length, and one that says why there is none."""

import importlib.util

import pytest

from tools import plan_pods


def test_what_cannot_be_planned_is_a_line_of_the_table():
    (line,) = plan_pods.lines_of(plan_pods.as_they_are, "v5e-8", "bert_base --config.batch_size=7")
    assert line.startswith(
        "| `bert_base` --config.batch_size=7 | v5e-8 | | config.batch_size=7: rows are split over"
    )


def test_of_a_host_of_gpus_the_setting_that_the_search_estimates_is_a_line():
    (line,) = plan_pods.as_searched("h100-8", "bert_tiny --config.batch_size=64")
    assert (
        line.startswith("| `bert_tiny` | h100-8 | 64 x 512 | ") and " micro, chunk all | estimated | " in line
    )


@pytest.mark.tpu_compile
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install "jaxlm[tpu]"'
)
def test_a_row_length_is_a_line_with_what_was_compiled():
    (line,) = plan_pods.as_they_are("v5e-4", "bert_base_fast --config.batch_size=64 --config.accumulate=1")
    assert "| v5e-4 | 64 x 512 | " in line and " %" in line
