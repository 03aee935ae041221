"""What layers compute on the way, for those who ask: features, queries, keys, values. In: names. Out: `Encoded.layers`.

    with observed.asking("states", "values"):
        encoded = model.encode(batch)
    encoded.layers["states"]  # [L, B, T, D]

Guaranteed: unasked, a program is the same as without this file. What is asked for is kept for every layer.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from jaxlm.models.encoded import Extras
from jaxlm.models.traced import Recorder

# states: x_BTD behind every block, before a norm that follows the last one. queries: q_BTNH, keys: k_BTKH, values:
# v_BTKH of self-attention, as the scores are made of them.
NAMES = ("states", "queries", "keys", "values")
_asked: list[frozenset[str]] = []
_notes: Recorder[tuple[str, Any]] = Recorder()


@contextlib.contextmanager
def asking(*names: str) -> Iterator[None]:
    """Models that are traced within keep these of every layer."""
    _asked.append(frozenset(names))
    try:
        yield
    finally:
        _asked.pop()


def asked() -> frozenset[str]:
    """What is kept now."""
    return _asked[-1] if _asked else frozenset()


def note(**arrays: Any) -> None:
    """What a layer has computed; who computes it calls this."""
    for name, array in arrays.items():
        _notes.add((name, array))


def layer(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call -> x_BTD or (x_BTD, Extras)` of one layer, with what is asked for as the values of its extras."""
    wanted = asked()
    if not wanted:
        return call

    def watched(*arguments: Any) -> tuple[Any, Extras]:
        with _notes.recorded() as notes:
            out = call(*arguments)
        x_BTD, extras = out if isinstance(out, tuple) else (out, Extras())
        kept = {name: array for name, array in [*notes, ("states", x_BTD)] if name in wanted}
        return x_BTD, dataclasses.replace(extras, values=kept)

    return watched
