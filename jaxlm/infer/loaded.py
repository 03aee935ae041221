"""A model ready to use. In: a run folder, a model folder or a Hugging Face folder. Out: a `Loaded`.

Of a run the best checkpoint is used when it kept one, else the newest; the moving average of the weights when there is
one. Each device reads its share of the weights, in the dtype of the computation: bfloat16 takes half the memory.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax.numpy as jnp

from jaxlm.batch import Kind
from jaxlm.config import flags
from jaxlm.convert.table import check_names
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.exchange import bases, model_folder, stored, tokenizer_files
from jaxlm.exchange.stored import HF, Stored
from jaxlm.formats.weights import Pickles
from jaxlm.infer.predict import Predictor
from jaxlm.models.build import Dtype, build
from jaxlm.models.paths import flatten, nest
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import AXES, SPLIT, Mesh

_ANY_LENGTH = 2048  # of a model without a longest row
_TEXT = "It writes text: jaxlm generate."
_USES: dict[Kind, str] = {
    "encoder": "It fills masks or embeds texts: jaxlm fill_mask or jaxlm embed.",
    "decoder": _TEXT,
    "encoder_decoder": _TEXT,
    "pair": "Its discriminator embeds texts: jaxlm embed.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loaded(Predictor):
    """A model with weights that were read, and what they were read from, with the files beside them."""

    stored: Stored
    adapters: Mapping[str, Stored] = dataclasses.field(default_factory=dict)  # see infer/adapters.py

    def choosing(self, names: Sequence[str | None], rows: int) -> Self:
        """The model that computes each of so many rows with the adapter of this name; None: with the base alone."""
        known = (*self.adapters, None) if not self.stored.heads else tuple(self.adapters)
        for name in names:
            if name not in known:
                raise UserError(f"adapter {name!r}: there are {', '.join(map(str, known)) or 'none'}.")
        if len(names) != rows:
            raise UserError(f"{len(names)} names of adapters for {rows} texts: give one for each.")
        return dataclasses.replace(self, which=tuple(known.index(name) for name in names))

    def require(self, purpose: str, kinds: Sequence[Kind], heads: Sequence[str] = ()) -> None:
        """UserError unless the model is of one of these kinds and has these heads."""
        kind, name, where = self.model.config.kind, type(self.model.config).__name__, self.stored.where
        if kind not in kinds:
            raise UserError(
                f"{where}: {name} is of the kind {kind}, and {purpose} takes a model of the kind "
                f"{' or '.join(kinds)}. {_USES[kind]}"
            )
        if missing := [head for head in heads if head not in self.stored.heads]:
            raise UserError(f"{where}: {purpose} takes a head {missing[0]!r}, and this {name} has none.")


def of_options(options: argparse.Namespace) -> Loaded:
    """What the options of `commands.options.add_model` say."""
    how = settings(options)
    flags.named_recipe(options.recipe, options.run)
    return load(options.run, step=options.step, base=options.base, **how)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The dtype and the mesh of these options."""
    given = {axis: size for axis in AXES if (size := vars(options).get(f"mesh.{axis}")) is not None}
    return {"dtype": options.precision, "mesh": Mesh(**given) if given else SPLIT}


def load(
    path: str | pathlib.Path,
    *,
    step: int | None = None,
    base: str = "",
    dtype: Dtype = "float32",
    mesh: Mesh = SPLIT,
) -> Loaded:
    """A run folder, a model folder, `hf:DIR` or a .gguf file.

    `base`: where the frozen weights of a run with a view, or of a PEFT folder, are now, if they moved. UserError
    where there is no model.
    """
    return of_stored(find(path, step=step, base=base, mesh=mesh), dtype, mesh)


def find(
    path: str | pathlib.Path, *, step: int | None = None, base: str = "", mesh: Mesh = SPLIT
) -> stored.Stored:
    """What `load` reads, before its weights are read."""
    if stored.is_foreign(name := str(path)):
        if step is not None:
            raise UserError(f"{name} is no run, and --step is about one. Fix: leave --step out.")
        return _find_hf(name.removeprefix(HF), base, "refuse", mesh)
    path = expanded(path)
    if not path.is_dir():
        raise UserError(
            f"{path}: no such folder. Name a run (the --workdir of its training), a model folder (made by `jaxlm "
            f"import`), or a Hugging Face folder as {HF}DIR."
        )
    stored.check_ours(path)
    if step is None and not model_folder.is_one(path):
        step = stored.best_step(path)
    return bases.merged(stored.open_stored(str(path), say=print, step=step), base, mesh)


def load_hf(
    path: str | pathlib.Path,
    *,
    base: str = "",
    allow_pickle: Pickles = "refuse",
    dtype: Dtype = "float32",
    mesh: Mesh = SPLIT,
) -> Loaded:
    """A Hugging Face folder, a PEFT folder on its `base`, or a .gguf file, without a conversion on disk."""
    return of_stored(_find_hf(path, base, allow_pickle, mesh), dtype, mesh)


def _find_hf(path: str | pathlib.Path, base: str, allow_pickle: Pickles, mesh: Mesh) -> stored.Stored:
    found = bases.merged(stored.of_hf(path, allow_pickle=allow_pickle, base=base), base, mesh)
    check_names(found.missing, found.unexpected, found.where)
    for line in tokenizer_files.unknown_keys(found.tokenizer, found.where):
        aside(line)
    return found


def aside(line: str) -> None:
    """What is said while a model is read."""
    print(line, file=sys.stderr)  # --json has stdout


def of_stored(found: stored.Stored, dtype: Dtype = "float32", mesh: Mesh = SPLIT) -> Loaded:
    """The model of weights that were found, with its tokenizer."""
    model, devices = build(found.config, found.heads, dtype=dtype), meshes.local(mesh)
    tokenizer = tokenizer_files.open_files(found.tokenizer, found.where)
    tokenizer_files.check_size(tokenizer, found.config.vocab_size, found.where)
    places = flatten(partition.shardings(model.shapes, model.axes, devices))
    return Loaded(
        model=model,
        params=nest((found.values or found.place)(places, jnp.dtype(dtype))),
        mesh=devices,
        tokenizer=tokenizer,
        row_length=row_length(found),
        stored=found,
    )


def row_length(found: stored.Stored) -> int:
    """The longest row that it takes, or was trained on."""
    if found.run is not None:
        return max(stage.length for stage in found.run.stages)
    return getattr(found.config, "max_positions", _ANY_LENGTH)
