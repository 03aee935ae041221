"""What a compiled program copies of what a cache holds. In: its text, keys or values. Out: lines."""

from typing import Any

import jax


def copied(text: str, held: Any) -> list[str]:
    """Lines that copy any of its arrays, each of which must be in the program."""
    short = {"float32": "f32", "int8": "s8"}
    shapes = {f"{short[str(a.dtype)]}[{','.join(map(str, a.shape))}]" for a in jax.tree.leaves(held)}
    assert all(shape in text for shape in shapes)
    return [line for line in text.splitlines() if " copy(" in line and any(shape in line for shape in shapes)]
