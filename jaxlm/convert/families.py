"""Every family's conversion, found by its config or by config.json's model_type; imported when asked for.

In: tensors (a dict of arrays, or a `Source`) and a model config; or our parameters. Out: the other side; `plan` is the
same parameter by parameter and slice by slice. Guaranteed: tied copies are compared with their originals, buffers are
dropped, older names are understood, everything missing or unexpected is listed.

A family is one file of this package with the name of its file in `jaxlm/models`; see `Family`.
"""

import dataclasses
import functools
import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import numpy as np

from jaxlm.convert import heads as places
from jaxlm.convert import present, table
from jaxlm.convert.table import Row
from jaxlm.errors import UserError, did_you_mean, reading
from jaxlm.formats.source import Index, Tensors, of_arrays
from jaxlm.models.build import build
from jaxlm.models.heads import Head
from jaxlm.models.paths import flatten, nest

# config.json's model_type -> the file of this package (and of jaxlm/models)
FILES: Mapping[str, str] = {
    "albert": "albert",
    "bart": "bart",
    "bert": "bert",
    "distilbert": "distilbert",
    "electra": "electra",
    "gpt2": "gpt2",
    "llama": "llama",
    "marian": "transformer",
    "mistral": "llama",
    "mixtral": "mixtral",
    "modernbert": "modernbert",
    "qwen2": "llama",
    "qwen3": "llama",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "t5": "t5",
}
# The same where config.json says is_encoder_decoder=false: the encoder alone
_ENCODERS = {"t5": "t5_encoder"}
_MODELS = "jaxlm.models."


class Family(Protocol):
    """What a family's file has. Optional are `fitted(config, names)`, the config for the tensors that a file holds,
    `constants(config)`, tensors that their files hold and that are no weights: written, and compared when read, and
    `HEADS` with `PREFIX` (see heads.py): then `to_hf_config` also takes the names of the heads."""

    MODEL_TYPES: tuple[str, ...]
    TIED: Mapping[str, str]  # name of a copy that some files hold -> the original
    IGNORED: tuple[str, ...]  # regular expressions of buffers, matched against whole names

    def from_hf_config(self, hf: Mapping[str, Any]) -> Any: ...
    def to_hf_config(self, config: Any) -> dict[str, Any]: ...
    def rows(self, config: Any) -> tuple[Row, ...]: ...
    def current_name(self, name: str) -> str: ...


def of_hf(hf: Mapping[str, Any]) -> Family:
    """The family of a config.json. UserError when there is none here."""
    kind = hf.get("model_type")
    if kind is None:
        raise UserError(f"config.json has no model_type. Add it; families here: {', '.join(FILES)}.")
    if not isinstance(kind, str) or kind not in FILES:
        raise UserError(
            f"config.json: model_type={kind!r} is not a family of jaxlm; there are {', '.join(FILES)}."
            + did_you_mean(str(kind), FILES)
        )
    alone = hf.get("is_encoder_decoder") is False and _ENCODERS.get(kind)
    return _family(alone or FILES[kind])


def of_config(config: Any) -> Family:
    """The family of a model config. UserError for a model without a conversion."""
    module = type(config).__module__
    name = module.removeprefix(_MODELS)
    if not module.startswith(_MODELS) or name not in {*FILES.values(), *_ENCODERS.values()}:
        raise UserError(f"{type(config).__name__} has no conversion: families with one: {', '.join(FILES)}.")
    return _family(name)


def config_from_hf(hf: Mapping[str, Any], names: Sequence[str] | None = None) -> Any:
    """The model config of a config.json and, where given, of the tensors beside it."""
    family, fix = of_hf(hf), "Take the file from the model's own folder."
    with reading("config.json", f"makes no {hf['model_type']}", fix):
        try:
            config = family.from_hf_config(hf)
        except KeyError as error:
            raise UserError(
                f"config.json has no {error.args[0]!r}, which a {hf['model_type']} needs. {fix}"
            ) from error
        if names is not None and (fitted := getattr(family, "fitted", None)):
            config = fitted(config, {family.current_name(name) for name in names})
        config = _typed(config)
        config.validate("config.json")
        return config


def heads(config: Any, names: Iterable[str], hf: Mapping[str, Any] | None = None) -> dict[str, Head]:
    """The heads that a file with tensors of these names, beside a config.json, holds, by our names."""
    family = of_config(config)
    return places.held(family, {family.current_name(name) for name in names}, hf or {})


def named(config: Any, names: Iterable[str]) -> dict[str, Head]:
    """The heads of these names, as the family's files have them."""
    return {name: places.sized(places.of(of_config(config))[name][0], {}) for name in names}


def rows(config: Any, heads: Collection[str] = ()) -> tuple[Row, ...]:
    """The table of a model with heads of these names. UserError for one that the family's files have no place for."""
    return places.table(of_config(config), config, heads)


def to_hf_config(config: Any, heads: Collection[str] = ()) -> dict[str, Any]:
    """The contents of config.json of a model with heads of these names."""
    return places.described(of_config(config), config, heads)


def import_params(
    tensors: Mapping[str, np.ndarray] | Tensors, config: Any, heads: Mapping[str, Head] | None = None
) -> dict[str, Any]:
    """Our parameters (nested dict of float32 arrays) from their tensors. UserError for all that does not fit.

    `heads`: those wanted; None: those that the tensors hold.
    """
    made = plan(tensors, config, heads)
    made.check()
    return nest({path: made.read(path) for path in made.shapes})


def export_params(params: Mapping[str, Any], config: Any) -> dict[str, np.ndarray]:
    """Their tensors from our parameters; tied copies are left out, as in files that transformers saves."""
    found = rows(config, list(params.get("heads", ())))
    return table.to_theirs(found, params, sizes(config)) | constants(config)


def constants(config: Any) -> dict[str, np.ndarray]:
    """Their tensors that are no weights but stand in their files."""
    made = getattr(of_config(config), "constants", None)
    return {} if made is None else made(config)


def sizes(config: Any) -> dict[str, int]:
    """Their length of the axes that are padded on our side."""
    return {"V": config.vocab_size}


@dataclasses.dataclass(frozen=True)
class Match:
    """How a source fills the parameters of a config."""

    source: Tensors  # under present names, without copies and buffers
    shapes: Mapping[str, Any]  # of ours, by path
    rows: Mapping[str, Row]
    sizes: Mapping[str, int]
    missing: tuple[str, ...]  # their names
    unexpected: tuple[str, ...]
    buffers: tuple[str, ...]  # names as stored of buffers and constants, which need no place
    copies: Mapping[str, str]  # name as stored of a tied copy -> present name of its original

    def check(self) -> None:
        """UserError that lists what is missing and unexpected."""
        table.check_names(self.missing, self.unexpected, self.source.where)

    def lacking(self) -> list[str]:
        """Our paths that the source does not fill (all of them)."""
        absent = set(self.missing)
        return [p for p, row in self.rows.items() if absent & set(row.names(self.shapes[p].shape))]

    def read(self, path: str, index: Index | None = None) -> np.ndarray:
        """Our array at a path, or a part of it, float32."""
        return table.read(self.rows[path], self.source, self.shapes[path].shape, self.sizes, index, widened)


def plan(
    tensors: Mapping[str, np.ndarray] | Tensors,
    config: Any,
    wanted: Mapping[str, Head] | None = None,
    *,
    shapes: Mapping[str, Any] | None = None,
) -> Match:
    """Compares names and shapes, and tied copies with their originals; reads nothing else.

    `wanted`: heads, None: those that the tensors hold. `shapes`: our nested tree of both, if it is at hand.
    """
    family = of_config(config)
    # The names of a file and those of the table meet in their present form.
    given = of_arrays(tensors)
    wanted = heads(config, given) if wanted is None else wanted
    found = [replace(row, theirs=family.current_name(row.theirs)) for row in rows(config, wanted)]
    ours = flatten(build(config, wanted).shapes if shapes is None else shapes)
    table.check_cover(found, ours)
    expected = {name for row in found for name in row.names(ours[row.ours].shape)}
    source, buffers, copies = present.entries(family, given, expected)
    source, fixed = present.without(source, constants(config))
    buffers += tuple(name for name in given if family.current_name(name) in fixed)
    missing, unexpected = table.difference(found, source, ours)
    for row in found:
        table.check_shapes(row, source, ours[row.ours].shape, sizes(config))
    by_path = {row.ours: row for row in found}
    return Match(source, ours, by_path, sizes(config), tuple(missing), tuple(unexpected), buffers, copies)


def widened(array: np.ndarray, name: str) -> np.ndarray:
    """float32; UserError for a dtype that float32 does not hold to the bit."""
    if array.dtype == np.float32:
        return array
    if array.dtype.name not in ("float16", "bfloat16"):
        raise UserError(
            f"{name} is stored as {array.dtype.name}: weights are float32, float16 or bfloat16. Convert it first."
        )
    return array.astype(np.float32)


def _typed(config: Any) -> Any:
    """The config with whole numbers where floats belong turned into floats. UserError for a value of another type."""
    changed = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is float and type(value) is int:
            changed[field.name] = float(value)
        elif field.type in (int, float, str) and type(value) is not field.type:
            raise UserError(
                f"config.json: what makes {type(config).__name__}.{field.name} is {value!r}: must be of type "
                f"{getattr(field.type, '__name__', field.type)}."
            )
    return dataclasses.replace(config, **changed)


@functools.cache
def _family(name: str) -> Family:
    try:
        return cast(Family, importlib.import_module(f"jaxlm.convert.{name}"))
    except ModuleNotFoundError as error:
        if error.name != f"jaxlm.convert.{name}":
            raise
        raise UserError(f"The conversion of {name} is not part of this version.") from error
