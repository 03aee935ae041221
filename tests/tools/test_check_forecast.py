"""Estimate against truth, of a log that can be read by hand."""

from tools.check_forecast import seconds, table

LOG = """2026-01-01 00:00:00 jaxlm: --config=x
2026-01-01 00:00:09 step 9/1000  loss 1.0  eta 9s
2026-01-01 23:59:00 jaxlm: --config=x
2026-01-01 23:59:01 step 50/1000  loss 2.0
2026-01-01 23:59:10 step 100/1000  loss 2.0  eta 1m30s
2026-01-01 23:59:30 step 500/1000  loss 2.0  eta 1m00s
2026-01-02 00:00:30 step 900/1000  loss 2.0  eta 5s
2026-01-02 00:00:50 done: 1000 steps
"""


def test_the_last_start_is_read_and_lines_without_an_estimate_are_not(tmp_path):
    (tmp_path / "run.log").write_text(LOG)
    assert table(tmp_path).splitlines()[2:] == [
        "| 10% | 90 s | 100 s | -10% |",
        "| 50% | 60 s | 80 s | -25% |",
        "| 50% | 60 s | 80 s | -25% |",
        "| 90% | 5 s | 20 s | -75% |",
        "| 90% | 5 s | 20 s | -75% |",
    ]


def test_durations_are_read_as_the_console_writes_them():
    assert [seconds(text) for text in ("59s", "1m01s", "1h02m", "1d01h")] == [59, 61, 3720, 90000]
