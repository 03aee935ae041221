"""The step folders of a run: `directory/<step>/`. In: a directory. Out: which steps count, whether they are
intact.

Guarantees: a step counts when its manifest is there, always read from disk; a removal takes the manifest
first, so that an interrupted one leaves nothing that looks complete. No device is asked.
"""

import os
import pathlib
import shutil
from collections.abc import Collection
from typing import Any

from jaxlm.checkpoint import manifest
from jaxlm.checkpoint.manifest import Files
from jaxlm.checkpoint.policy import Keep, kept_steps
from jaxlm.errors import UserError

_TEMPORARY = ".orbax-checkpoint-tmp"


class Folders:
    """The folder of checkpoints. `share`: the files that this process hashes, where several do."""

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        check: manifest.Check = "sha256",
        share: manifest.HostShare = manifest.ALL,
    ) -> None:
        self.directory = pathlib.Path(os.path.abspath(directory))
        self._check: manifest.Check = check
        self._share = share
        self._intact: set[int] = set()

    def path(self, step: int) -> pathlib.Path:
        """Where a step is, or would be."""
        return self.directory / str(step)

    def all(self) -> list[int]:
        """Steps that have a folder, complete or not."""
        if not self.directory.is_dir():
            return []
        names = [name for name in os.listdir(self.directory) if name.isdecimal()]
        return [int(name) for name in names if name == str(int(name))]

    def committed(self) -> list[int]:
        """Complete steps, ascending."""
        return sorted(step for step in self.all() if self.is_committed(step))

    def is_committed(self, step: int) -> bool:
        """Whether the step's manifest is there."""
        return os.path.exists(self.path(step) / manifest.FILE)

    def manifest(self, step: int) -> dict[str, Any]:
        """The manifest of a step. UserError when there is no such step, or its manifest is damaged."""
        if step not in self.all():
            have = ", ".join(map(str, self.committed())) or "none"
            raise UserError(f"There is no checkpoint of step {step} in {self.directory}; there are: {have}.")
        try:
            return manifest.read(self.path(step))
        except manifest.DamagedStep as damage:
            raise UserError(
                f"Checkpoint {self.path(step)} is damaged: {damage}. Use another step."
            ) from damage

    def problem(self, step: int) -> str | None:
        """What is wrong with a step's files (the first one is named), or None. Each step is read once."""
        if step in self._intact:
            return None
        try:
            manifest.verify(self.path(step), check=self._check, share=self._share)
        except manifest.DamagedStep as damage:
            return str(damage)
        self._intact.add(step)
        return None

    def make_ready(self, step: int) -> None:
        """Removes what an interrupted save of the step left. OSError where nothing can be written."""
        self.remove_temporary(step)
        probe = self.directory / f"{step}{_TEMPORARY}"
        probe.mkdir()
        probe.rmdir()

    def commit(self, step: int, *, meta: dict, metrics: dict[str, float], arrays: dict) -> None:
        """Hashes the files and writes the manifest: from now on the step counts."""
        entries = {"step": step, "meta": meta, "metrics": metrics, "arrays": arrays}
        manifest.commit(self.path(step), entries, check=self._check, share=self._share)
        self._intact.add(step)

    def described(self, step: int, *, without: Collection[str] = ()) -> Files:
        """The manifest's entries of the files of a step that are on this disk."""
        share = manifest.Without(frozenset(without))
        return manifest.described(self.path(step), check=self._check, share=share)

    def complete(
        self, step: int, files: Files, *, meta: dict, metrics: dict[str, float], arrays: dict
    ) -> None:
        """Like `commit`, of files that are described already."""
        entries = {"step": step, "meta": meta, "metrics": metrics, "arrays": arrays}
        manifest.write(self.path(step), entries, files)

    def remove(self, step: int) -> None:
        """Deletes a step."""
        if self.path(step).is_dir():
            _delete(self.path(step) / manifest.FILE)
        _delete(self.path(step))
        self._intact.discard(step)

    def set_aside(self, step: int, why: str) -> str:
        """Renames a step that must not be used to `<step>.<why>`; returns its new name."""
        target = self.directory / f"{step}.{why}"
        _delete(target)
        self.path(step).rename(target)
        self._intact.discard(step)
        return target.name

    def prune(self, keep: Keep) -> None:
        """Removes what the policy does not keep, and interrupted saves."""
        metrics: dict[int, dict[str, float]] = {}
        for step in self.committed():
            try:
                metrics[step] = manifest.read(self.path(step))["metrics"]
            except manifest.DamagedStep:
                metrics[step] = {}
        for step in set(self.all()) - kept_steps(metrics, keep):
            self.remove(step)

    def remove_temporary(self, step: int | None = None) -> None:
        """Deletes what interrupted saves left: of one step, its folder included, or all temporary folders."""
        if not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            if path.name.startswith("" if step is None else f"{step}.") and _TEMPORARY in path.name:
                _delete(path)
        if step is not None and step in self.all() and not self.is_committed(step):
            _delete(self.path(step))


def _delete(path: pathlib.Path) -> None:
    """Removes a folder, or the file or link that stands in its place; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
