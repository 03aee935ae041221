"""Claims about how much memory there is: a container's limit counts, and a step that cannot fit is not started."""

import os
import subprocess
import sys

import pytest

from jaxlm.runtime import device_memory
from tests import xla


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "7000"}, [7000]),
        ("0::/not/seen\n", {"memory.max": "5000\n"}, [5000]),
        (
            "5:cpu:/x\n4:memory,hugetlb:/x\n0::/\n",
            {"memory/x/memory.limit_in_bytes": "9", "cpu/x/memory.limit_in_bytes": "1"},
            [9],
        ),
        ("0::/\n", {}, []),
    ],
    ids=["a parent's", "only the topmost is seen", "version 1", "none"],
)
def test_the_limits_of_a_container_are_found(groups, files, limits, tmp_path):
    texts = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert list(device_memory.container_limits(tmp_path)) == limits


def test_without_control_groups_there_is_no_limit_of_a_container(tmp_path):
    assert list(device_memory.container_limits(tmp_path)) == []


def test_a_step_that_no_memory_holds_is_refused_before_it_runs(train_command, tmp_path):
    rows = 4 * (1 + (device_memory.limit() or 0) // 2**40)  # 4 need 1.8 TiB
    long = [
        f"--config.{key}=65536" for key in ("stages[0].length", "stages[1].length", "model.max_positions")
    ]
    process = train_command(tmp_path / "run", *long, f"--config.batch_size={rows}")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 78 and "Traceback" not in output, output
    assert "DOES NOT FIT" in output and "step 1/" not in output
    assert (
        "error: config.batch_size: a step of " in output
        and "Fix, each with the same results: --config." in output
    )


@pytest.mark.skipif(
    sys.platform != "linux", reason="what a process takes is read from /proc/self, which Linux has"
)
@pytest.mark.parametrize("devices", [1, 8])
def test_a_step_takes_what_its_program_says(devices):
    """0.96 and 0.98 of it were seen, on one device and on eight (2026-11-27)."""
    command = [sys.executable, "-m", "tests.runtime.peak", "quickstart", "--config.batch_size=128"]
    environment = {name: value for name, value in os.environ.items() if name != "PJRT_NPROC"}
    environment["XLA_FLAGS"] = xla.flags(devices)  # threads have memory of their own
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    needed, taken = map(int, done.stdout.split())
    assert needed > 500 * 2**20 and needed == pytest.approx(taken, rel=0.1)
