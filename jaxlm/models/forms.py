"""How a weight that is no single array is kept on disk. In: a `Value`. Out: named arrays, and the form they have.

A form is a config: it stands in a model folder's model.json under the path of its weight, whose arrays have paths of
their own behind it ("layers/mlp/w_in/codes").
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jaxlm.models.beside import Scaled
from jaxlm.models.factors import Factors
from jaxlm.models.quantised import Activations, Kind, Quantised, packed, unpacked
from jaxlm.models.split import Split
from jaxlm.models.values import Value, is_value

Arrays = Mapping[str, jax.Array]


@dataclasses.dataclass(kw_only=True)
class Rounded:
    """Codes with scales; perhaps what comes in is scaled (`inner`), and some inputs are left as they are (`at`)."""

    kind: Kind  # of the codes
    activations: Activations  # what comes in is rounded to

    def value(self, parts: Arrays) -> Value:
        """Of its arrays."""
        codes = unpacked(parts["codes"], self.kind)
        made = Quantised(codes, parts["scale"], parts.get("low"), self.activations)
        scaled = Scaled(made, parts["inner"], None) if "inner" in parts else made
        return Split(scaled, parts["at"], parts["kept"]) if "at" in parts else scaled


@dataclasses.dataclass(kw_only=True)
class Factored:
    """Two thin matrices."""

    inputs: int  # dimensions that are contracted

    def value(self, parts: Arrays) -> Value:
        """Of its arrays."""
        return Factors(parts["a"], parts["b"], self.inputs)


Form = Rounded | Factored


def taken_apart(params: Mapping[str, Any]) -> tuple[dict[str, jax.Array], dict[str, Form]]:
    """(arrays, forms) of parameters by path, some of them values."""
    arrays, forms = {}, {}
    for path, leaf in params.items():
        if not is_value(leaf):
            arrays[path] = leaf
            continue
        forms[path], parts = _of(leaf)
        arrays |= {f"{path}/{name}": part for name, part in parts.items() if part is not None}
    return arrays, forms


def _of(value: Value) -> tuple[Form, dict[str, Any]]:
    if isinstance(value, Scaled) and value.outer is None:
        form, parts = _of(value.base)
        return form, parts | {"inner": value.inner}
    if isinstance(value, Split):
        form, parts = _of(value.rest)
        return form, parts | {"at": value.at_K, "kept": value.kept_KO}
    if isinstance(value, Factors):
        return Factored(inputs=value.inputs), {"a": value.a, "b": value.b}
    if isinstance(value, Quantised):
        kind = _KINDS[value.codes.dtype.name]
        parts = {"codes": packed(value.codes), "scale": value.scale, "low": value.low}
        return Rounded(kind=kind, activations=value.activations), parts
    raise TypeError(f"{type(value).__name__} has no form on disk.")


_KINDS: dict[str, Kind] = {"int8": "int8", "int4": "int4", "uint4": "nf4", "float8_e4m3fn": "fp8"}


def parts_of(path: str, shapes: Mapping[str, Any]) -> dict[str, str]:
    """{name of a part: its path} of a weight with a form, among what a checkpoint holds."""
    start = f"{path}/"
    return {name.removeprefix(start): name for name in shapes if name.startswith(start)}
