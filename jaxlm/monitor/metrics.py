"""Metrics to files: metrics.jsonl, TensorBoard, Weights & Biases. In: a step and named numbers. Out: one JSON
line.

A line is `{"step": 120, "train/loss": 3.2, ...}`; a value that is not finite is null (JSON has no NaN).
Guarantees: after `resume(step)` there is nothing newer than that step and no torn line; no (step, name) is
written twice; what was written before `flush` survives a power cut; lines that were lost or changed since a checkpoint
are noticed; TensorBoard and W&B never stop a run. Only the main process writes.
"""

import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxlm.errors import UserError
from jaxlm.monitor.events import Events
from jaxlm.monitor.meanings import meaning

FILE = "metrics.jsonl"
_SHOWN_AFTER_S = 30.0  # TensorBoard sees a line after this long at the latest


class Writer:
    """Writes metrics of one run to `workdir`, and to the trackers. A context manager."""

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        enabled: bool = True,
        tensorboard: bool = True,
        wandb: str = "",
        config: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self._workdir, self.enabled, self._say = Path(workdir), enabled, say
        self._use_tensorboard, self._wandb_project, self._config = tensorboard, wandb, config
        self._file: int | None = None
        self._unwritten, self._warned = "", False  # ASCII: json.dumps escapes the rest
        self._written: dict[int, set[str]] = {}
        self._lines, self._digest = 0, hashlib.sha256()
        self._trackers: list[tuple[str, Any]] = []

    def resume(self, step: int, expected: Mapping[str, Any] | None = None) -> None:
        """Forgets everything after `step` (0: a new run) and opens the files.

        `expected` is `written()` at that step: where the file does not hold these lines, one warning says so.
        """
        if not self.enabled:
            return
        path = self._workdir / FILE
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            self._written, kept = truncate_after(path, step)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"{path} cannot be read and written ({error.strerror}). Fix: mend its permissions, or move away what "
                "stands there; the run goes on without the earlier lines."
            ) from error
        self._count(kept)
        if expected and expected != self.written():
            self._say(
                f"WARNING: {path} is not what was written up to step {step}: {expected['lines']} lines then, "
                f"{self._lines} now; some were lost or changed. The run goes on with those there are."
            )
        if self._use_tensorboard:
            folder = self._workdir / "tensorboard"
            self._start("TensorBoard", lambda: _TensorBoard(folder, step, self._config))
        if self._wandb_project:
            self._start("W&B", lambda: _Wandb(self._wandb_project, self._workdir, self._config))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line; names that were already written for this step are left out."""
        if not self.enabled:
            return
        assert self._file is not None, "resume(step) opens the files"
        written = self._written.setdefault(step, set())
        fresh = {name: value for name, value in metrics.items() if name not in written}
        if not fresh:
            return
        written.update(fresh)
        line = {name: value if math.isfinite(value) else None for name, value in fresh.items()}
        text = json.dumps({"step": step, **line}) + "\n"
        self._count([text])
        self._unwritten += text
        self._to_file(sync=False)
        for name, tracker in list(self._trackers):
            self._try(name, lambda tracker=tracker: tracker.write(step, fresh))

    def text(self, step: int, name: str, text: str) -> None:
        """A text of this step for TensorBoard, shown as it stands."""
        for tracker in [tracker for _, tracker in self._trackers if isinstance(tracker, _TensorBoard)]:
            self._try("TensorBoard", lambda tracker=tracker: tracker.text(step, name, text))

    def flush(self) -> bool:
        """Makes all lines durable; False when the disk does not take them, and then a checkpoint must not be saved."""
        for name, tracker in list(self._trackers):
            self._try(name, tracker.flush)
        return self._to_file(sync=True)

    def written(self) -> dict[str, Any]:
        """How many lines there are, and the SHA-256 of them all."""
        return {"lines": self._lines, "sha256": self._digest.hexdigest()}

    def _count(self, lines: list[str]) -> None:
        self._lines += len(lines)
        self._digest.update("".join(lines).encode())

    def _to_file(self, *, sync: bool) -> bool:
        """Writes what is waiting; a full disk costs a warning, and the lines wait for the next time."""
        if self._file is None:
            return True
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self._file, self._unwritten.encode()) :]
            if sync:
                os.fsync(self._file)
        except OSError as error:
            if not self._warned:
                self._say(
                    f"WARNING: {self._workdir / FILE} cannot be written ({error.strerror}); its lines wait"
                )
            self._warned = True
            return False
        self._warned = False
        return True

    def close(self) -> None:
        """Flushes and closes."""
        self.flush()
        for name, tracker in list(self._trackers):
            self._try(name, tracker.close)
        self._trackers.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, name: str, make: Callable[[], Any]) -> None:
        try:
            self._trackers.append((name, make()))
        except Exception as error:
            self._say(f"WARNING: {name} is off: {error}")

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._trackers = [tracker for tracker in self._trackers if tracker[0] != name]
            self._say(f"WARNING: {name} failed and is off from here on: {error}")


def truncate_after(path: Path, step: int) -> tuple[dict[int, set[str]], list[str]]:
    """Removes, in one rename, lines newer than `step`, torn ones, repetitions: (names by step, the lines left)."""
    written: dict[int, set[str]] = {}
    kept: list[str] = []
    if not os.path.lexists(path):
        return written, kept
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        line = _parse(text)
        if line is None or line["step"] > step:
            continue
        names = written.setdefault(line["step"], set())
        fresh = {name: value for name, value in line.items() if name != "step" and name not in names}
        if fresh:
            names.update(fresh)
            kept.append(json.dumps({"step": line["step"], **fresh}) + "\n")
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return written, kept


def read(workdir: str | os.PathLike) -> list[dict[str, Any]]:
    """All complete lines of a run's metrics.jsonl, in the order written."""
    text = (Path(workdir) / FILE).read_text(encoding="utf-8", errors="replace")
    return [line for line in map(_parse, text.splitlines()) if line is not None]


def _parse(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


class _TensorBoard:
    def __init__(self, folder: Path, step: int, config: Mapping[str, Any] | None) -> None:
        folder.mkdir(exist_ok=True)
        self._events = Events(folder, meaning)
        self._events.restart(step)
        if config is not None:
            self.text(step, "config", json.dumps(config, indent=2))
        self.flush()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._events.scalar(step, name, value)
        if time.monotonic() - self._flushed > _SHOWN_AFTER_S:
            self.flush()

    def text(self, step: int, name: str, text: str) -> None:
        as_it_stands = "".join(f"    {line}\n" for line in text.splitlines())  # in Markdown
        self._events.text(step, name, as_it_stands)

    def flush(self) -> None:
        self._events.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        self._events.close()


class _Wandb:
    def __init__(self, project: str, workdir: Path, config: Mapping[str, Any] | None) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise RuntimeError('wandb is not installed; pip install "jaxlm[wandb]"') from None
        name, identity = workdir.absolute().name, workdir / "wandb_id"
        if not identity.exists():  # folders of one name on two machines are two runs
            identity.write_text(f"{name}-{secrets.token_hex(4)}")
        settings = {"id": identity.read_text(), "name": name, "dir": str(workdir), "resume": "allow"}
        self._run = wandb.init(project=project, config=dict(config or {}), **settings)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._run.finish()
