"""What a run folder tells. In: its path. Out: `Told`. UserError for a folder that is no run, or has measured nothing.

Whatever else is missing (an older version, a run in progress, one that was killed) is empty.
"""

import contextlib
import dataclasses
import fcntl
import json
import math
import pathlib
import shlex
from collections.abc import Iterator
from typing import Any

from jaxlm.checkpoint.folders import Folders
from jaxlm.errors import UserError
from jaxlm.monitor import console, metrics
from jaxlm.report import log

_FORMAT = 1
_NEEDED = {"model", "objective", "data", "stages", "steps", "batch_size"}  # of a configuration
_OTHERS = {"model.json": "a model folder", "model.safetensors": "a Hugging Face folder"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told:
    """A run as its folder has it."""

    folder: pathlib.Path
    name: str  # different from the others of a report
    config: dict[str, Any]  # as in config.json
    code: dict[str, Any]  # the recipe and the SHA-256 of its files
    lines: list[dict[str, Any]]  # metrics.jsonl
    log: log.Log
    starts: list[dict[str, Any]]  # environment.jsonl
    isolation: list[dict[str, Any]]
    checkpoints: list[int]  # steps
    saved: dict[str, Any]  # the manifest of the newest checkpoint
    samples: dict[int, str]  # by step
    rows: dict[int, dict[str, list]]  # by stage, by task
    diverged: int  # the step at which it was given up; 0: never
    running: bool

    @property
    def steps(self) -> int:
        """That it is to take."""
        return self.config["steps"]

    @property
    def step(self) -> int:
        """The newest of which something is known."""
        return max([self.lines[-1]["step"], *self.checkpoints])

    @property
    def meta(self) -> dict[str, Any]:
        """Of the newest checkpoint."""
        return self.saved.get("meta", {})

    def stages(self) -> list[int]:
        """The first step of every stage, counted from 0, as `Run.stage_steps`."""
        shares = [stage["share"] for stage in self.config["stages"]]
        return [round(sum(shares[:number]) * self.steps) for number in range(len(shares))]


def read(path: str | pathlib.Path) -> Told:
    """Everything of a folder."""
    folder = pathlib.Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder. Fix: name a run folder, such as runs/quickstart."
        )
    said = _configuration(folder)
    folders = Folders(folder / "checkpoints")
    return Told(
        folder=folder,
        name=folder.absolute().name,
        config=said["config"],
        code=said.get("code") or {},
        lines=_measured(folder, said["config"]),
        log=log.parsed(_text(folder / console.FILE)),
        starts=list(_json_lines(folder / "environment.jsonl")),
        isolation=list(_json_lines(folder / "isolation.jsonl")),
        checkpoints=folders.committed(),
        saved=_newest(folders),
        samples=dict(sorted((_number(p), _text(p)) for p in folder.glob("samples/step-*.txt"))),
        rows={
            n: found
            for n, found in sorted((_number(p), _value(p)) for p in folder.glob("rows/stage-*.json"))
            if found
        },
        diverged=max([_number(p) for p in folder.glob("crash/non_finite-step-*.json")], default=0),
        running=_in_use(folder / ".lock"),
    )


def several(paths: list[str]) -> list[Told]:
    """Of every folder once, with names that differ: as much of the path as that takes."""
    found = {pathlib.Path(path).expanduser().resolve(): read(path) for path in paths}
    named = {place: place.name for place in found}
    for depth in range(2, max(len(place.parts) for place in found) + 1):
        taken = list(named.values())
        for place, name in named.items():
            if taken.count(name) > 1:
                named[place] = pathlib.Path(*place.parts[-depth:]).as_posix()
    return [dataclasses.replace(one, name=named[place]) for place, one in found.items()]


def _configuration(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "config.json"
    said = _value(path) if path.is_file() else {}
    if isinstance(said, dict) and isinstance(said.get("format"), int) and said["format"] != _FORMAT:
        raise UserError(
            f"{path} has format {said['format']}; this version of jaxlm reads {_FORMAT}. Fix: update jaxlm."
        )
    config = said.get("config") if isinstance(said, dict) else None
    if not isinstance(config, dict) or not config.keys() >= _NEEDED:
        kind = next((what for name, what in _OTHERS.items() if (folder / name).exists()), "")
        why = f"{kind}, and no run folder" if kind else "no run folder: it has no config.json of a run"
        inside = sorted(str(one.parent) for one in folder.glob(f"*/{metrics.FILE}"))
        fix = f"jaxlm report {shlex.join(inside[:4])}" if inside else "name the --workdir of a training"
        raise UserError(f"{folder} is {why}. Fix: {fix}.")
    return said


def _measured(folder: pathlib.Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    lines = metrics.read(folder) if (folder / metrics.FILE).is_file() else []
    if not lines:
        every = config.get("logging", {}).get("every_steps", "some")
        raise UserError(
            f"{folder / metrics.FILE} holds no line yet: the first comes after {every} steps. Fix: wait for it, or "
            f"continue the run: jaxlm train --workdir={shlex.quote(str(folder))}"
        )
    return lines


def _newest(folders: Folders) -> dict[str, Any]:
    """The manifest of the newest checkpoint whose manifest can be read."""
    for step in reversed(folders.committed()):
        with contextlib.suppress(UserError):
            return folders.manifest(step)
    return {}


def _in_use(lock: pathlib.Path) -> bool:
    """Whether a process trains in this folder now."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _text(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _value(path: pathlib.Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError):
        return {}


def _json_lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    for line in _text(path).splitlines():
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def _number(path: pathlib.Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def finite(value: Any) -> bool:
    """Whether a measure is a number that can be drawn."""
    return isinstance(value, (int, float)) and math.isfinite(value)
