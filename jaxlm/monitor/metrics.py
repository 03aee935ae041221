"""Metrics to files: metrics.jsonl, TensorBoard, Weights & Biases. In: a step and named numbers. Out: one JSON
line.

A line is `{"step": 120, "train/loss": 3.2, ...}`; a value that is not finite is null (JSON has no NaN).
Guarantees: after `resume(step)` there is nothing newer than that step and no torn line; no (step, name) is
written twice; what was written before `flush` survives a power cut; TensorBoard and W&B never stop a run.
Only the main process writes.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


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
        self._workdir, self._enabled, self._say = Path(workdir), enabled, say
        self._use_tensorboard, self._wandb_project, self._config = tensorboard, wandb, config
        self._file: Any = None
        self._written: dict[int, set[str]] = {}
        self._trackers: list[tuple[str, Any]] = []

    def resume(self, step: int) -> None:
        """Forgets everything after `step` (0: a new run) and opens the files."""
        if not self._enabled:
            return
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._written = truncate_after(self._workdir / FILE, step)
        self._file = open(self._workdir / FILE, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        if self._use_tensorboard:
            self._start("TensorBoard", lambda: _TensorBoard(self._workdir / "tensorboard", step))
        if self._wandb_project:
            self._start("W&B", lambda: _Wandb(self._wandb_project, self._workdir, self._config))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line; names that were already written for this step are left out."""
        if not self._enabled:
            return
        assert self._file is not None, "resume(step) opens the files"
        written = self._written.setdefault(step, set())
        fresh = {name: value for name, value in metrics.items() if name not in written}
        if not fresh:
            return
        written.update(fresh)
        line = {name: value if math.isfinite(value) else None for name, value in fresh.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        for name, tracker in list(self._trackers):
            self._try(name, lambda tracker=tracker: tracker.write(step, fresh))

    def flush(self) -> None:
        """Makes all lines durable; call it before a save, so that they never fall behind a checkpoint."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        for name, tracker in list(self._trackers):
            self._try(name, tracker.flush)

    def close(self) -> None:
        """Flushes and closes."""
        self.flush()
        for name, tracker in list(self._trackers):
            self._try(name, tracker.close)
        self._trackers.clear()
        if self._file is not None:
            self._file.close()
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


def truncate_after(path: Path, step: int) -> dict[int, set[str]]:
    """Removes, in one rename, lines newer than `step`, torn ones, repetitions. Returns names by step."""
    written: dict[int, set[str]] = {}
    if not path.exists():
        return written
    kept = []
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
    return written


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
    def __init__(self, folder: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        # purge_step hides what an interrupted run wrote for steps that are trained again.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, project: str, workdir: Path, config: Mapping[str, Any] | None) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise RuntimeError('wandb is not installed; pip install "jaxlm[wandb]"') from None
        name = workdir.absolute().name
        self._run = wandb.init(
            project=project, id=name, name=name, dir=str(workdir), resume="allow", config=dict(config or {})
        )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._run.finish()
