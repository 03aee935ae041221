"""Every test runs on the CPU with 8 virtual devices; set before anything imports jax.

With JAXLM_REQUIRE_PARITY=1 (the gate sets it) a skipped test in a `*_parity.py` file is a failure.
"""

import gc
import os
import shutil
import tempfile

import pytest

from tests import xla

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = xla.flags(8, os.environ.get("XLA_FLAGS", ""))
os.environ.setdefault("PJRT_NPROC", "32")  # with a thread a device, sums that wait for each other use them up
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Programs are compiled once for all tests, workers and commands: a fifth of the time.
_COMPILED = "JAX_COMPILATION_CACHE_DIR"
_made_here = _COMPILED not in os.environ  # else by the process that started this worker, or by the user
if _made_here:
    os.environ[_COMPILED] = tempfile.mkdtemp(prefix="jaxlm-tests-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_collection_finish():
    # What is imported by now stays: looking through it for garbage again and again is a twentieth of a test's time.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_unconfigure():
    if _made_here:
        shutil.rmtree(os.environ[_COMPILED], ignore_errors=True)


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


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> str:
    """A JSONL corpus of real English without a download: docstrings of the standard library, about 400 documents."""
    import ast
    import json
    import pathlib
    import sysconfig

    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    texts = []
    for name in (
        "argparse",
        "difflib",
        "datetime",
        "decimal",
        "fractions",
        "random",
        "statistics",
        "string",
        "tarfile",
    ):
        candidates = [folder / f"{name}.py", folder / f"_py{name}.py", folder / "_pydatetime.py"]
        source = next(p for p in candidates if p.exists()).read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                texts.append(ast.get_docstring(node))
    path = tmp_path_factory.mktemp("corpus") / "docs.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in dict.fromkeys(texts)))
    return str(path)


@pytest.fixture(scope="session")
def train_command(corpus, tmp_path_factory):
    """Runs `python -m jaxlm.train` on the tiny recipe as a user would; returns a started process."""
    import pathlib
    import subprocess
    import sys

    root = pathlib.Path(__file__).parents[1]
    cache = tmp_path_factory.getbasetemp() / "cache"

    def start(
        workdir,
        *overrides: str,
        recipe: str = "tests/recipes/tiny.py",
        devices: int = 1,
        cwd: pathlib.Path = root,
        **environment: str,
    ):
        command = [sys.executable, "-m", "jaxlm.train", f"--config={root / recipe}", f"--workdir={workdir}"]
        set_here = {"XLA_FLAGS": xla.flags(devices), "JAXLM_CACHE": str(cache), "PYTHONPATH": str(root)}
        return subprocess.Popen(
            [*command, f"--config.data.corpus={corpus}", *overrides],
            cwd=cwd,
            env={**os.environ, **set_here, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start
