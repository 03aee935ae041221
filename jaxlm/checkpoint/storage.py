"""The arrays of a step on disk; only this module imports orbax, and tensorstore below it. In: nested dicts of arrays.
Out: the files of a folder.

All processes of a multi-host run call `start` and `load` together. Guarantee: what orbax narrates and repeats over
pages about a failure stays out of the log; callers get the error itself, once.
"""

import logging
import pathlib
import sys
import warnings
from typing import Any

import jax
import tensorstore
from orbax.checkpoint import v1 as ocp

_ITEM = "state"
_TEMPORARY = ".orbax-checkpoint-tmp"
_INDEX = "index.process_"
# A host whose write failed leaves the others waiting for it: a save that takes longer than this has failed somewhere.
_PATIENCE_S, _SLOWEST = 600.0, 5e6  # and bytes per second of one host
# Devices that hold the same array write a slice each of so many bytes or more; smaller slices save no time, and every
# shape costs the first save a program.
_SLICE = 1 << 20


def start(folder: pathlib.Path, nested: dict, *, apart: bool = False) -> Any:
    """Copies the arrays to the host and begins to write them; `.result()` of what is returned waits, or raises.

    `apart`: every process has a disk of its own, on which `folder`, the same path on all, has only what it wrote; then
    see `indexed` and `joined`.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(nested)) / jax.process_count()
    context = _context(timeout_s=_PATIENCE_S + size / _SLOWEST)
    saving = context.array_options.saving
    if apart:  # its folder is made by one process, and the others would wait to see it
        saving.array_metadata_store = None
    else:
        saving.min_slice_bytes_for_replica_parallel = _SLICE
    with context:
        return ocp.save_checkpointables_async(str(folder), {_ITEM: nested})


def indexed(folder: pathlib.Path, process: int) -> None:
    """Of a process but the first, whose disk is its own: gives its part of a written step the name of the step, and
    beside the arrays a small index of them."""
    folder.with_name(folder.name + _TEMPORARY).rename(folder)
    context = tensorstore.Context()
    mine = _store(folder / _ITEM, context, inside=f"ocdbt.process_{process}/")
    _copied(mine, _store(folder / _ITEM, context, index=f"{_INDEX}{process}/"))


def indices(processes: int) -> list[str]:
    """The folders inside a step that the first process needs of the others, to join what they wrote."""
    return [f"{_ITEM}/{_INDEX}{process}/" for process in range(1, processes)]


def joined(folder: pathlib.Path, processes: int) -> None:
    """Of the first process: makes its part of a step, and the indices of the others beside it, one set of arrays.

    FileNotFoundError when an index is not there. The arrays themselves are not read: their files are named.
    """
    context = tensorstore.Context()
    whole = _store(folder / _ITEM, context)
    for index in indices(processes):
        (folder / index / "manifest.ocdbt").stat()
        _copied(_store(folder / _ITEM, context, index=pathlib.Path(index).name + "/"), whole)


def stays(name: str) -> bool:
    """Whether a file of a step is one that `joined` leaves as it is."""
    return name.startswith((f"{_ITEM}/ocdbt.process_", f"{_ITEM}/{_INDEX}"))


def _store(state: pathlib.Path, context: tensorstore.Context, *, inside: str = "", index: str = "") -> Any:
    """The arrays of a folder, as OCDBT keeps them; with `index`, what names them is in that folder of it."""
    at = lambda place: {"driver": "file", "path": f"{state}/{place}"}
    names = {
        "manifest": at(index),
        "btree_node_data_prefix": index,
        "version_tree_node_data_prefix": index,
    }
    spec = {"driver": "ocdbt", "base": at(inside), **(names if index else {})}
    return tensorstore.KvStore.open(spec, context=context).result()


def _copied(source: Any, to: Any) -> None:
    """The names of the one in the other, where they stand for the same files: both are of one context."""
    change = tensorstore.Transaction(atomic=True)
    source.experimental_copy_range_to(to.with_transaction(change)).result()
    change.commit_async().result()


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
