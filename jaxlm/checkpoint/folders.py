"""The step folders of a run: `directory/<step>/`. In: a directory. Out: which steps count, whether they are
intact.

Guarantees: a step counts when its manifest is there, always read from disk; a removal takes the manifest
first, so that an interrupted one leaves nothing that looks complete. No orbax here, no device.
"""

import os
from typing import Any, Literal

from etils import epath

from jaxlm.checkpoint import manifest
from jaxlm.checkpoint.policy import Keep, kept_steps
from jaxlm.errors import UserError

_TEMPORARY = ".orbax-checkpoint-tmp"


class Folders:
    """The folder of checkpoints; a path, or the URL of a bucket."""

    def __init__(self, directory: str | os.PathLike, *, check: Literal["size", "sha256"] = "sha256") -> None:
        path = os.fspath(directory)
        self.directory = epath.Path(path if "://" in path else os.path.abspath(path))
        self._check: Literal["size", "sha256"] = check
        self._intact: set[int] = set()

    def path(self, step: int) -> epath.Path:
        """Where a step is, or would be."""
        return self.directory / str(step)

    def all(self) -> list[int]:
        """Steps that have a folder, complete or not."""
        if not self.directory.is_dir():
            return []
        return [int(path.name) for path in self.directory.iterdir() if path.name.isdecimal()]

    def committed(self) -> list[int]:
        """Complete steps, ascending."""
        return sorted(step for step in self.all() if self.is_committed(step))

    def is_committed(self, step: int) -> bool:
        """Whether the step's manifest is there."""
        return (self.path(step) / manifest.FILE).exists()

    def manifest(self, step: int) -> dict[str, Any]:
        """The manifest of a step. UserError when there is no such step, or its manifest is damaged."""
        if step not in self.all():
            have = ", ".join(map(str, self.committed())) or "none"
            raise UserError(f"There is no checkpoint of step {step} in {self.directory}; there are: {have}.")
        try:
            return manifest.read(self.path(step))
        except manifest.Damaged as damage:
            raise UserError(
                f"Checkpoint {self.path(step)} is damaged: {damage}. Use another step."
            ) from damage

    def problem(self, step: int) -> str | None:
        """What is wrong with a step's files (the first one is named), or None. Each step is read once."""
        if step in self._intact:
            return None
        try:
            manifest.verify(self.path(step), check=self._check)
        except manifest.Damaged as damage:
            return str(damage)
        self._intact.add(step)
        return None

    def commit(self, step: int, *, meta: dict, metrics: dict[str, float], arrays: dict) -> None:
        """Hashes the files and writes the manifest: from now on the step counts."""
        manifest.write(self.path(step), step=step, meta=meta, metrics=metrics, arrays=arrays)
        self._intact.add(step)

    def remove(self, step: int) -> None:
        """Deletes a step."""
        (self.path(step) / manifest.FILE).unlink(missing_ok=True)
        self.path(step).rmtree()
        self._intact.discard(step)

    def set_aside(self, step: int) -> str:
        """Renames a damaged step; returns its new name."""
        target = self.directory / f"{step}.corrupt"
        if target.exists():
            target.rmtree()
        self.path(step).rename(target)
        return target.name

    def prune(self, keep: Keep) -> None:
        """Removes what the policy does not keep, and interrupted saves."""
        metrics: dict[int, dict[str, float]] = {}
        for step in self.committed():
            try:
                metrics[step] = manifest.read(self.path(step))["metrics"]
            except manifest.Damaged:
                metrics[step] = {}
        for step in set(self.all()) - kept_steps(metrics, keep):
            self.remove(step)

    def remove_temporary(self, step: int | None = None) -> None:
        """Deletes what interrupted saves left: of one step, its folder included, or all temporary folders."""
        if not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            if path.name.startswith("" if step is None else f"{step}.") and _TEMPORARY in path.name:
                path.rmtree()
        if step is not None and step in self.all() and not self.is_committed(step):
            self.path(step).rmtree()
