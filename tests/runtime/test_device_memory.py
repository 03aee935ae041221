"""Claims about how much memory there is: a container's limit counts, and a step that cannot fit is not started."""

import pytest

from jaxlm.runtime import device_memory


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
