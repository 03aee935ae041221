"""Damages files: bytes of any kind, and values of a JSON document. The same seed does the same."""

import copy
import json
import math
import random
import struct
from collections.abc import Iterator
from typing import Any

ABSURD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    7,
    2**24,
    2**32 - 1,
    2**63,
    10**30,
    -(2**63),
    0.5,
    1e308,
    math.nan,
    math.inf,
    "",
    "x",
    "a\ud800b",
    "x" * 5000,
    [],
    [0],
    ["x", None],
    {},
    {"x": [1]},
    [[[[[[[[{}]]]]]]]],
)
_NUMBERS = (0, 1, 2**7, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to five changes; of a JSON document often one of its values."""
    if data[:1] in (b"{", b"[") and rng.random() < 0.6:
        try:
            value = json.loads(data)
        except ValueError:
            return _changed(data, rng)
        path = rng.choice(list(places(value)))
        return json.dumps(replaced(value, path, rng.choice(ABSURD))).encode()
    for _ in range(rng.choice((1, 1, 2, 5))):
        data = _changed(data, rng) or b"\0"
    return data


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside; long lists and dicts by their first entries."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for number, (key, one) in enumerate(inner):
        if number < 40:
            yield from places(one, (*at, key))


def replaced(value: Any, path: tuple, new: Any) -> Any:
    """A copy with another value at a path."""
    if not path:
        return new
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return made


def _changed(data: bytes, rng: random.Random) -> bytes:
    made, at = bytearray(data), rng.randrange(len(data))
    match rng.randrange(7):
        case 0:
            made[at] ^= 1 << rng.randrange(8)
        case 1:
            made[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        case 2:
            del made[at : at + rng.randint(1, 9)]
        case 3:
            made[at:at] = rng.randbytes(rng.randint(1, 9))
        case 4:
            kind = rng.choice(["<I", ">I", "<Q", ">Q"])
            number = rng.choice(_NUMBERS) % 2 ** (8 * struct.calcsize(kind))
            made[at : at + struct.calcsize(kind)] = struct.pack(kind, number)
        case 5:
            other = rng.randrange(len(data))
            made[at : at + 40] = data[other : other + 40]
        case 6:
            del made[at:]
    return bytes(made)
