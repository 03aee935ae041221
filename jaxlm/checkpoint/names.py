"""State as names: any pytree to a nested dict of arrays under string keys, and back.

In: a pytree (dataclasses, NamedTuples, dicts, lists). Out: what is stored, `{"opt_state": {"0": {"mu":
{...}}}}`. Guarantees: structure without arrays (empty optimizer states, None) costs nothing on disk and comes
back from `like`; two trees that differ are reported by name, first five, before a byte is read.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxlm.errors import UserError

# {"params/layers/wq": {"shape": [2, 3], "dtype": "float32"}}
Arrays = dict[str, dict[str, Any]]

_SHOWN = 5


def to_nested(tree: Any, called: Mapping[str, str] | None = None) -> dict:
    """The tree's leaves in nested dicts with string keys; `called`: other names, by that in the tree.

    ValueError for a key that holds a "/".
    """
    nested: dict = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        keys = _keys(path)
        if any("/" in key for key in keys):
            raise ValueError(f"names in a state are joined by '/', this one holds one itself: {keys}")
        keys, node = _called(keys, called), nested
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = leaf
    return nested


def from_nested(nested: Mapping, like: Any, called: Mapping[str, str] | None = None) -> Any:
    """The tree `like` with the leaves of `nested`, which `to_nested` of it with the same `called` names."""

    def pick(path: tuple, _: Any) -> Any:
        node: Any = nested
        for key in _called(_keys(path), called):
            node = node[key]
        return node

    return jax.tree_util.tree_map_with_path(pick, like)


def describe(tree: Any) -> Arrays:
    """Name, shape and dtype of every array in a tree of arrays or ShapeDtypeStructs."""
    return {
        "/".join(_keys(path)): {"shape": list(np.shape(leaf)), "dtype": str(np.dtype(leaf.dtype))}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def check_same(stored: Arrays, wanted: Arrays, *, where: str, fix: str, part: bool = False) -> None:
    """Raises UserError when the arrays of a checkpoint are not those wanted.

    `part`: the checkpoint may hold more arrays, and its dtypes may differ (they are cast).
    """
    lines = []
    for name in sorted(stored.keys() | wanted.keys()):
        have, want = stored.get(name), wanted.get(name)
        if want is None:
            if not part:
                lines.append(f"{name}: {_show(have)} in the checkpoint, not in this run")
        elif have is None:
            lines.append(f"{name}: not in the checkpoint, {_show(want)} in this run")
        elif have["shape"] != want["shape"] or (not part and have["dtype"] != want["dtype"]):
            lines.append(f"{name}: {_show(have)} in the checkpoint, {_show(want)} in this run")
    if lines:
        more = f"\n  ... and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise UserError(
            f"{where} does not fit this run: {len(lines)} of {len(stored.keys() | wanted.keys())} arrays "
            "differ:\n  " + "\n  ".join(lines[:_SHOWN]) + f"{more}\n{fix}"
        )


def _called(keys: list[str], called: Mapping[str, str] | None) -> list[str]:
    name = "/".join(keys)
    return keys if called is None else called.get(name, name).split("/")


def _show(array: Mapping | None) -> str:
    return "nothing" if array is None else f"{array['dtype']}[{', '.join(map(str, array['shape']))}]"


def _keys(path: tuple) -> list[str]:
    """Path entries as strings: field names, dict keys, positions."""
    return [str(getattr(p, "name", getattr(p, "key", getattr(p, "idx", p)))) for p in path]
