"""The formats, and how a model becomes one of them. In: a model, the name of a format, a folder. Out: the folder.

It appears complete or not at all. What a check found is written beside it (check.json) and into the model card.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jaxlm.errors import UserError, did_you_mean
from jaxlm.exchange import model_folder
from jaxlm.exchange.stored import Stored
from jaxlm.infer import loaded
from jaxlm.infer.loaded import Loaded

Say = Callable[[str], None]

# name -> (module, what it is for)
FORMATS: dict[str, tuple[str, str]] = {
    "stablehlo": ("jaxlm.export.stablehlo", "programs that jax alone runs, for CPU, TPU and CUDA"),
    "savedmodel": ("jaxlm.export.savedmodel", "for TensorFlow, on a CPU"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The model that is exported; its weights are read when they are asked for."""

    path: str
    step: int | None = None
    base: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # of the format, as typed

    @functools.cached_property
    def loaded(self) -> Loaded:
        """The model, ready to use, in float32."""
        return loaded.load(self.path, step=self.step, base=self.base)

    @property
    def stored(self) -> Stored:
        """What is known of it, with its weights one by one (`hosts`)."""
        return self.loaded.stored


@dataclasses.dataclass(frozen=True)
class Difference:
    """One comparison of a check: of what, the largest absolute difference to our outputs, and how much is allowed."""

    what: str
    largest: float
    allowed: float

    @property
    def fine(self) -> bool:
        """Whether it is allowed; NaN is not."""
        return self.largest <= self.allowed


class Format(Protocol):
    """A module of this package."""

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


def write(name: str, source: Source, target: pathlib.Path, *, say: Say) -> None:
    """Makes the folder."""
    with model_folder.new_folder(target) as partial:
        of(name).write(source, partial, say)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    say(f"{target}: {name}, {size:,} bytes, from {source.stored.where}")


def check(name: str, source: Source, target: pathlib.Path, *, say: Say) -> bool:
    """Whether the engine says what we say; kept in check.json."""
    found = of(name).check(source, target, say)
    for one in found:
        say(f"{one.what}: largest difference {one.largest:.3g}, allowed {one.allowed:.3g}")
    told = [dataclasses.asdict(one) | {"fine": one.fine} for one in found]
    (target / "check.json").write_text(json.dumps(told, indent=1) + "\n")
    return all(one.fine for one in found)
