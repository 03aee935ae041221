"""Every test runs on the CPU with 8 virtual devices; set before anything imports jax.

With JAXLM_REQUIRE_PARITY=1 (the gate sets it) a skipped test in a `*_parity.py` file is a failure.
"""

import os

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
_flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _must_run(nodeid: str) -> bool:
    return os.environ.get("JAXLM_REQUIRE_PARITY") == "1" and "_parity.py" in nodeid


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.skipped and _must_run(item.nodeid):
        report.outcome = "failed"
        report.longrepr = f"parity test skipped under JAXLM_REQUIRE_PARITY: {report.longrepr}"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    report = (yield).get_result()
    if report.skipped and _must_run(collector.nodeid):
        report.outcome = "failed"
        report.longrepr = f"parity file skipped under JAXLM_REQUIRE_PARITY: {report.longrepr}"
