"""The command is started again once, with the setting and nothing else changed."""

import os
import subprocess
import sys

import pytest

from jaxlm.runtime import memory


def test_the_command_is_repeated_once_with_the_setting(monkeypatch):
    monkeypatch.setattr(memory, "_useful", lambda: True)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    calls = []
    memory.prefer_huge_pages(["python", "-m", "x", "--a=b"], lambda *call: calls.append(call))
    ((program, arguments, environment),) = calls
    assert program == sys.executable and arguments == [sys.executable, "-m", "x", "--a=b"]
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", environment["GLIBC_TUNABLES"])
    memory.prefer_huge_pages([], lambda *call: calls.append(call))
    assert len(calls) == 1


def test_a_machine_without_huge_pages_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_OFFERED", tmp_path / "enabled")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    memory.prefer_huge_pages([], lambda *call: pytest.fail("executed"))
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    memory.prefer_huge_pages([], lambda *call: pytest.fail("executed"))


def test_a_real_process_keeps_its_number_and_arguments():
    code = "import os, sys; print(os.getpid(), flush=True); from jaxlm.runtime import memory; memory.prefer_huge_pages(); print(sys.argv[1:])"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"} | {"GLIBC_TUNABLES": ""}
    done = subprocess.run([sys.executable, "-c", code, "one", "--two=3"], env=environment, capture_output=True, text=True)
    *numbers, arguments = done.stdout.split("\n")[:-1]
    assert arguments == "['one', '--two=3']" and len(set(numbers)) == 1, done
