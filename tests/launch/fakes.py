"""Executables on PATH that record what they are given, for the launch scripts."""

import os
import pathlib
import signal
import subprocess
import time

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"


class Fakes:
    """Executables that append their arguments to a log, then run `body` (bash; $n is the call's number)."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()

    def add(self, name: str, body: str) -> None:
        log = self.folder / f"{name}.log"
        path = self.bin / name
        record = r"""(IFS=$'\x1f'; echo "${*//$'\n'/ }")"""  # one line per call
        path.write_text(f"#!/usr/bin/env bash\n{record} >>{log}\nn=$(wc -l <{log})\n{body}\n")
        path.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        log = self.folder / f"{name}.log"
        return [line.split("\x1f") for line in log.read_text().split("\n")[:-1]] if log.exists() else []

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("JAXLM_", "SLURM_", "XLA_", "RETRY_"))
        }
        return {
            **kept,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "RETRY_WAIT": "0",
            **more,
        }

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", str(LAUNCH / script), *arguments],
            env=self.environment(**environment),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Tests in the background of a shell have it ignored, and bash traps nothing that was ignored when it began.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, script: str, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(script, *arguments, **environment)
        try:
            output = process.communicate(timeout=30)[0]
        finally:
            process.kill()
        return process.returncode, output

    def wait_for(self, name: str) -> None:
        """Until the file is there."""
        deadline = time.monotonic() + 20
        while not (self.folder / name).exists():
            assert time.monotonic() < deadline, f"{name} was not written"
            time.sleep(0.02)
