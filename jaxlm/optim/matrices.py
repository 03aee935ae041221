"""Which parameters are matrices. In: logical axes of a parameter. Out: its stack, rows and columns.

One rule, for weight decay, LAMB, Adafactor and Muon alike. Leading axes named 'layers' or 'experts' are a
stack: several parameters in one array, each on its own. In the rest, 'heads' or 'kv_heads' next to 'head_dim'
count as one feature axis, 'unit' (of length 1) as none; None is one like any other. Two or more feature axes
left make a matrix; fewer make a vector (bias, norm scale).

    (layers, embed, heads, head_dim)  matrix embed x (heads head_dim), one per layer: decayed
    (vocab, embed)                    matrix: decayed
    (layers, heads, head_dim)         vector (heads head_dim): a bias, not decayed
    (buckets, heads)                  matrix, a table like embeddings: decayed
    (layers, embed) (vocab,) (None,)  vector: not decayed
"""

import dataclasses
import math
from typing import Any

import jax

Axes = tuple[str | None, ...]

STACKS = ("layers", "experts")
HEADS = ("heads", "kv_heads")
# Feature axes of hidden matrices. Others (vocab, positions, types, buckets, classes) belong to tables and output
# heads, for which Muon's authors advise Adam.
HIDDEN = ("embed", "mlp", "head_dim", "rank", *HEADS)


@dataclasses.dataclass(frozen=True)
class Dimensions:
    """Array dimensions of a parameter by role: `stack` is empty or leading, `groups` are feature axes."""

    stack: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    hidden: bool  # all feature axes are in HIDDEN

    @property
    def is_matrix(self) -> bool:
        """Two or more feature axes."""
        return len(self.groups) >= 2

    @property
    def features(self) -> tuple[int, ...]:
        """All dimensions but the stack."""
        return tuple(d for group in self.groups for d in group)


def layout(axes: Axes) -> Dimensions:
    """The layout of a parameter with these logical axes."""
    start = 0
    # The last axis is never a stack: a number per expert is a vector.
    while start < len(axes) - 1 and axes[start] in STACKS:
        start += 1
    groups: list[tuple[int, ...]] = []
    for d in range(start, len(axes)):
        if axes[d] == "unit":
            continue
        if d > start and axes[d - 1] in HEADS and axes[d] == "head_dim":
            groups[-1] += (d,)
        else:
            groups.append((d,))
    hidden = all(a in HIDDEN for a in axes[start:])
    return Dimensions(tuple(range(start)), tuple(groups), hidden)


def size(shape: tuple[int, ...], dims: tuple[int, ...]) -> int:
    """Entries along the dimensions `dims`."""
    return math.prod(shape[d] for d in dims)


def is_axes(node: Any) -> bool:
    """True for a leaf of a tree of axes: a tuple of names."""
    return isinstance(node, tuple) and all(a is None or isinstance(a, str) for a in node)


def layouts(axes: Any) -> Any:
    """The tree of layouts for a tree of axes."""
    return jax.tree.map(layout, axes, is_leaf=is_axes)


def decayed(axes: Any) -> Any:
    """The tree of bools: which parameters are subject to weight decay."""
    return jax.tree.map(lambda x: x.is_matrix, layouts(axes))
