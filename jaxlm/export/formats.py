"""The formats, and how a model becomes one of them. In: a model, the name of a format, a folder. Out: the folder.

It appears complete or not at all. What a check found is written beside it (check.json) and into the model card.
"""

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jaxlm.errors import UserError, did_you_mean
from jaxlm.exchange import model_folder
from jaxlm.exchange.stored import Stored
from jaxlm.export import card
from jaxlm.export.difference import Difference
from jaxlm.infer import loaded
from jaxlm.infer.loaded import Loaded

Say = Callable[[str], None]

# name -> (module, what it is for)
FORMATS: dict[str, tuple[str, str]] = {
    "gguf": ("jaxlm.export.gguf", "llama.cpp and what is built on it"),
    "compressed-tensors": ("jaxlm.export.compressed_tensors", "transformers and vLLM, of compressed weights"),
    "onnx": ("jaxlm.export.onnx", "onnxruntime and transformers.js"),
    "stablehlo": ("jaxlm.export.stablehlo", "programs that jax alone runs, for CPU, TPU and CUDA"),
    "savedmodel": ("jaxlm.export.savedmodel", "for TensorFlow, on a CPU"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The model that is exported; its weights are read when they are asked for."""

    path: str
    step: int | None = None
    base: str = ""
    options: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # those of the format that were typed

    @functools.cached_property
    def loaded(self) -> Loaded:
        """The model, ready to use, in float32."""
        return loaded.of_stored(self.stored)

    @functools.cached_property
    def stored(self) -> Stored:
        """What is known of it, with its weights one by one (`hosts`)."""
        return loaded.find(self.path, step=self.step, base=self.base)


class Format(Protocol):
    """A module of this package. `OPTIONS`, if it has any: name of an option -> its values, the default first."""

    def write(self, source: Source, partial: pathlib.Path, say: Say) -> None:
        """Fills the empty folder. UserError for what the format cannot hold, before anything large is written."""
        ...

    def check(self, source: Source, target: pathlib.Path, say: Say) -> Sequence[Difference]:
        """Loads the folder in its engine. UserError when that is not installed, or the folder is damaged."""
        ...


def of(name: str) -> Format:
    """The module of a format."""
    if name not in FORMATS:
        raise UserError(f"--format={name}: there are {', '.join(FORMATS)}.{did_you_mean(name, FORMATS)}")
    return importlib.import_module(FORMATS[name][0])  # type: ignore[return-value]


def options(name: str, typed: Mapping[str, Any]) -> dict[str, Any]:
    """What was typed (None: nothing) as the format has it. UserError for what it does not take."""
    known: Mapping[str, Sequence[str]] = getattr(of(name), "OPTIONS", {})
    found = {}
    for option, value in typed.items():
        if value is None:
            continue
        if option not in known:
            takes = (
                ", ".join(f"--{one}={'|'.join(values)}" for one, values in known.items()) or "none of its own"
            )
            raise UserError(
                f"--{option}={value}: --format={name} does not take it. Options of {name}: {takes}."
            )
        spelled = {one.lower(): one for one in known[option]}
        if str(value).lower() not in spelled:
            raise UserError(
                f"--{option}={value}: --format={name} takes {', '.join(known[option])}."
                f"{did_you_mean(str(value), known[option])}"
            )
        found[option] = spelled[str(value).lower()]
    return found


def write(name: str, source: Source, target: pathlib.Path, *, say: Say) -> None:
    """Makes the folder."""
    module = of(name)
    with model_folder.new_folder(target) as partial:
        module.write(source, partial, say)
        if not (readme := partial / "README.md").exists():
            readme.write_text(card.text(source.stored, name, FORMATS[name][1]), encoding="utf-8")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    say(f"{target}: {name}, {size:,} bytes, from {source.stored.where}")


def check(name: str, source: Source, target: pathlib.Path, *, say: Say) -> bool:
    """Whether the engine says what we say; kept in check.json and the model card."""
    found = of(name).check(source, target, say)
    for one in found:
        say(f"{one.what}: largest difference {one.largest:.3g}, allowed {one.allowed:.3g}")
    card.keep(target, found)
    return all(one.fine for one in found)
