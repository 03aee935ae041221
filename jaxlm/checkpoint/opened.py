"""Checkpoints by a path. In: a run folder, its checkpoints folder, or the folder of one step. Out: `Checkpoints` that
are read alone, and the step that is meant.
"""

import os
import pathlib
from collections.abc import Callable

from jaxlm.checkpoint import manifest
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.errors import UserError


def names_step(path: str | os.PathLike) -> bool:
    """Whether a path is the folder of one step, rather than of a run, whose name may be a number too."""
    folder = pathlib.Path(path)
    return folder.name.isdecimal() and (folder / manifest.FILE).exists()


def find_run(path: str | os.PathLike, *, say: Callable[[str], None] = print) -> tuple[Checkpoints, int]:
    """Opens, for reading only, a run folder, its checkpoints folder, or one step's folder: (checkpoints, step).

    The step is the newest unless the path names one; not verified. UserError when there is none.
    """
    folder = pathlib.Path(path)
    if names_step(path):
        return Checkpoints(folder.parent, None, say=say), int(folder.name)
    inner = folder / "checkpoints"
    checkpoints = Checkpoints(inner if inner.is_dir() else folder, None, say=say)
    step = checkpoints.latest()
    if step is None:
        raise UserError(
            f"{path}: no complete checkpoint there. Give a run folder (the --workdir of a training run), its "
            "checkpoints folder, or the folder of one step."
        )
    return checkpoints, step


def open_run(path: str | os.PathLike, *, say: Callable[[str], None] = print) -> tuple[Checkpoints, int]:
    """Like `find_run`, and the step is verified: the newest intact one, or the one that the path names."""
    checkpoints, step = find_run(path, say=say)
    if not names_step(path):
        step = checkpoints.newest_intact()
    if step is None:
        raise UserError(f"{path}: every checkpoint there is damaged.")
    checkpoints.verify(step)
    return checkpoints, step
