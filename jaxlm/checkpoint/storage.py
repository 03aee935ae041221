"""The arrays of a step on disk; only this module imports orbax. In: nested dicts of arrays. Out: the files of a folder.

All processes of a multi-host run call `start` and `load` together. Guarantee: what orbax narrates and repeats over
pages about a failure stays out of the log; callers get the error itself, once.
"""

import logging
import pathlib
import sys
import warnings
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

_ITEM = "state"
# A host whose write failed leaves the others waiting for it: a save that takes longer than this has failed somewhere.
_PATIENCE_S, _SLOWEST = 600.0, 5e6  # and bytes per second of one host


def start(folder: pathlib.Path, nested: dict) -> Any:
    """Copies the arrays to the host and begins to write them; `.result()` of what is returned waits, or raises."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(nested)) / jax.process_count()
    with _context(timeout_s=_PATIENCE_S + size / _SLOWEST):
        return ocp.save_checkpointables_async(str(folder), {_ITEM: nested})


def load(folder: pathlib.Path, like: dict) -> dict:
    """The arrays that `like` (ShapeDtypeStructs, or arrays) names, with its dtypes and shardings."""
    with _context():
        return ocp.load_checkpointables(str(folder), {_ITEM: jax.tree.map(_abstract, like)})[_ITEM]


def _context(timeout_s: float = _PATIENCE_S) -> ocp.Context:
    context = ocp.Context()
    context.pytree.loading.partial_load = True  # our own comparison decides what may be missing
    context.async_options.timeout_secs = int(timeout_s)
    # Created in the background, a folder that cannot be leaves threads that hold up the exit for 300 s.
    context.async_options.create_directories_asynchronously = False
    return context


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _without_closed_loops(unraisable: "sys.UnraisableHookArgs") -> None:
    """Drops what tensorstore's threads print for each write that was under way when a save failed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        _shown(unraisable)


logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
warnings.filterwarnings("ignore", "coroutine 'async_serialize.* was never awaited", RuntimeWarning)
_shown, sys.unraisablehook = sys.unraisablehook, _without_closed_loops
