"""config.json and our configs, key by key. In: what a config.json holds, a family's tables. Out: keyword arguments.

Guaranteed: a key that is missing, of another type or of a value that we do not have is refused by name, with what is
allowed; nothing is guessed.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from jaxlm.errors import UserError
from jaxlm.models.mlp import Activation

_Value = TypeVar("_Value")
# Bounds on what may be built from a file that a stranger wrote; the largest published are 126 and 10 * 2**20.
_MOST_LAYERS, _LARGEST = 4096, 2**24

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_BACK: Mapping[Activation, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "relu": "relu",
    "silu": "silu",
}


def read(
    hf: Mapping[str, Any], table: Mapping[str, str], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """{ours: value} for a table {ours: theirs}. `defaults`: {theirs: value} where transformers has a default itself.

    Raises UserError for a key that is missing, not a number, text or list, or a size beyond all reason.
    """
    return {ours: value(hf, theirs, (defaults or {}).get(theirs, ...)) for ours, theirs in table.items()}


def value(hf: Mapping[str, Any], key: str, default: Any = ...) -> Any:
    """One key; null counts as missing. Raises UserError when it is missing and has no default, or is absurd."""
    found = hf.get(key)
    if found is None:
        if default is ...:
            raise UserError(
                f"config.json has no {key!r}, which a {hf.get('model_type', 'model')} needs. Take the file from the "
                "model's own folder."
            )
        return default
    most = _MOST_LAYERS if "layer" in key else _LARGEST
    if isinstance(found, int | float) and not -most <= found <= most:
        raise UserError(
            f"config.json: {key}={found}: at most {most} is taken. The file is damaged, or not a model's."
        )
    return found


def number(hf: Mapping[str, Any], key: str, kind: type, default: Any = ...) -> Any:
    """One key that has to be an int, or a float (an int will do)."""
    found = value(hf, key, default)
    if isinstance(found, bool) or not isinstance(found, (int, float) if kind is float else kind):
        raise UserError(f"config.json: {key}={found!r}: must be of type {kind.__name__}.")
    return kind(found)


def refuse(hf: Mapping[str, Any], key: str, *allowed: Any, why: str = "") -> None:
    """UserError unless the key is absent, null, or one of `allowed`."""
    found = hf.get(key)
    if found is None or any(found == item and type(found) is type(item) for item in allowed):
        return
    known = " or ".join(map(repr, allowed)) or "to leave it out"
    raise UserError(
        f"config.json: {key}={found!r} is not supported; allowed: {known}.{' ' + why if why else ''}"
    )


def activation(hf: Mapping[str, Any], key: str, default: Any = ...) -> Activation:
    """Our name of the activation under a key."""
    return choice(hf, key, ACTIVATIONS, default)


def activation_name(activation: Activation) -> str:
    """transformers' name of an activation."""
    return _BACK[activation]


def choice(hf: Mapping[str, Any], key: str, table: Mapping[str, _Value], default: Any = ...) -> _Value:
    """What a table {theirs: ours} says of the value of a key."""
    found = value(hf, key, default)
    if not isinstance(found, str) or found not in table:
        raise UserError(f"config.json: {key}={found!r}: known are {', '.join(sorted(table))}.")
    return table[found]
