"""How large a checkpoint is and whether the disk holds the ones to keep. In: an abstract state. Out: bytes,
or an error.

Guarantee: nothing is allocated and nothing is written.
"""

import math
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxlm.checkpoint.policy import Keep
from jaxlm.errors import UserError


def state_bytes(abstract: Any) -> int:
    """Bytes of all arrays of a tree of arrays or ShapeDtypeStructs: an upper bound, files are compressed."""
    return sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree_util.tree_leaves(abstract)
    )


def free_bytes(directory: str | os.PathLike) -> int:
    """Bytes that can be written below `directory` (which need not exist yet)."""
    folder = Path(directory).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_space(directory: str | os.PathLike, bytes_needed: int, keep: Keep, *, present: int = 0) -> None:
    """Raises UserError when the checkpoints to keep, and the one being written, do not fit on the disk.

    `bytes_needed` is for one checkpoint, `present` how many are already there (they hold their space).
    """
    free = free_bytes(directory)
    count = max(keep.count() - present, 1)
    if count * bytes_needed <= free:
        return
    raise UserError(
        f"{os.fspath(directory)} has {_gib(free)} free, {_gib(count * bytes_needed)} are needed: {count} "
        "checkpoints of "
        f"{_gib(bytes_needed)} (checkpoint.keep.latest={keep.latest} + checkpoint.keep.best={keep.best} + "
        "the one being "
        "written). Free some space, keep fewer, "
        "with --config.checkpoint.keep.latest=1 or --config.checkpoint.keep.best=0, or put workdir on "
        "another disk."
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"
