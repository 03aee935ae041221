"""What a checkpoint holds when it is restored on some mesh. In: a run folder, a step, a mesh. Out: hashes of arrays.

    python -m jaxlm.training.restored RUN STEP OUT.json DATA FSDP TENSOR

A process of its own, as `jaxlm verify_resume` starts it: its devices are those of the environment.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Run
from jaxlm.exchange import stored
from jaxlm.partition import mesh as meshes
from jaxlm.run.program import Program
from jaxlm.runtime import distributed


def hashes(state: Any) -> dict[str, str]:
    """SHA-256 of every array by its path, each gathered whole."""
    found = {}
    for path, array in jax.tree_util.tree_flatten_with_path(state)[0]:
        whole = np.asarray(multihost_utils.process_allgather(array, tiled=True))
        found[jax.tree_util.keystr(path)] = hashlib.sha256(whole.tobytes()).hexdigest()
    return found


def restored(run: Run, place: pathlib.Path, step: int) -> Any:
    """The state of a checkpoint on the run's mesh."""
    mesh = meshes.make(run.mesh)
    with jax.set_mesh(mesh):
        return Checkpoints(place / "checkpoints", None).restore(step, Program.of(run, mesh).state)[0]


def main(argv: Sequence[str]) -> int:
    """Writes the hashes."""
    place, step, target = pathlib.Path(argv[1]), int(argv[2]), pathlib.Path(argv[3])
    data, fsdp, tensor = map(int, argv[4:])
    distributed.start()
    run = stored.open_stored(str(place), say=print, step=step).run
    assert run is not None
    run = dataclasses.replace(run, mesh=meshes.Mesh(data=data, fsdp=fsdp, tensor=tensor))
    found = hashes(restored(run, place, step))
    if distributed.is_main():
        target.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
