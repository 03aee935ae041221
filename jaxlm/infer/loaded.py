"""A model ready to use. In: a run folder, a model folder or a Hugging Face folder. Out: a `Loaded`.

Of a run the best checkpoint is used when it kept one, else the newest; the moving average of the weights when there is
one. Weights are on the default device, in the dtype of the computation: bfloat16 takes half the memory of float32.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Kind
from jaxlm.config import Run, flags
from jaxlm.convert.table import check_names
from jaxlm.convert.weights import Pickles
from jaxlm.data.places import expanded
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import bases, model_folder, stored, tokenizer_files
from jaxlm.models.build import Dtype, Model, build
from jaxlm.models.paths import nest

_ANY_LENGTH = 2048  # of a model without a longest row
_TEXT = "It writes text: python -m jaxlm.generate."
_USES: dict[Kind, str] = {
    "encoder": "It fills masks or embeds texts: python -m jaxlm.fill_mask or python -m jaxlm.embed.",
    "decoder": _TEXT,
    "encoder_decoder": _TEXT,
    "pair": "Its discriminator embeds texts: python -m jaxlm.embed.",
}


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model with its weights."""

    model_config: Any
    tokenizer: Tokenizer
    model: Model
    params: Any
    step: int
    row_length: int  # the longest row it takes, or was trained on
    where: str
    stored: stored.Stored  # what it was read from, with the files beside it
    run: Run | None = None

    def require(self, purpose: str, kinds: Sequence[Kind], heads: Sequence[str] = ()) -> None:
        """UserError unless the model is of one of these kinds and has these heads."""
        kind, name = self.model_config.kind, type(self.model_config).__name__
        if kind not in kinds:
            raise UserError(
                f"{self.where}: {name} is of the kind {kind}, and {purpose} takes a model of the kind "
                f"{' or '.join(kinds)}. {_USES[kind]}"
            )
        if missing := [head for head in heads if head not in self.stored.heads]:
            raise UserError(f"{self.where}: {purpose} takes a head {missing[0]!r}, and this {name} has none.")


def of_options(options: argparse.Namespace, *, dtype: Dtype = "float32") -> Loaded:
    """What a command names: hf, or run with step and config, a recipe that defines classes of the run."""
    if options.config:
        flags.load(options.config)
    if options.hf:
        return load_hf(options.hf, dtype=dtype)
    return load(options.run, step=options.step, dtype=dtype, base=options.base)


def load(
    path: str | pathlib.Path, *, step: int | None = None, dtype: Dtype = "float32", base: str = ""
) -> Loaded:
    """A run folder or a model folder; `base`: where the frozen weights of a run with a view are now, if they moved.

    UserError where there is none.
    """
    path = expanded(path)
    if not path.is_dir():
        raise UserError(
            f"{path}: no such folder. Name the --workdir of a run, or what convert_checkpoint.py made."
        )
    if step is None and not model_folder.is_one(path):
        step = stored.best_step(path)
    return _loaded(bases.merged(stored.open_stored(str(path), say=print, step=step), base, _aside), dtype)


def load_hf(
    path: str | pathlib.Path, *, allow_pickle: Pickles = "refuse", dtype: Dtype = "float32"
) -> Loaded:
    """A Hugging Face folder, or a .gguf file, without a conversion on disk."""
    found = stored.of_hf(path, allow_pickle=allow_pickle)
    check_names(found.missing, found.unexpected, found.where)
    for line in tokenizer_files.unknown_keys(found.tokenizer, found.where):
        print(line, file=sys.stderr)  # --json has stdout
    return _loaded(found, dtype)


def _aside(line: str) -> None:
    print(line, file=sys.stderr)  # --json has stdout


def _loaded(found: stored.Stored, dtype: Dtype) -> Loaded:
    model = build(found.config, found.heads, dtype=dtype)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    tokenizer = tokenizer_files.open_files(found.tokenizer, found.where)
    tokenizer_files.check_size(tokenizer, found.config.vocab_size, found.where)
    return Loaded(
        model_config=found.config,
        tokenizer=tokenizer,
        model=model,
        params=nest(_weights(found, dtype, here)),
        step=found.step,
        row_length=_row_length(found),
        where=found.where,
        stored=found,
        run=found.run,
    )


def _weights(found: stored.Stored, dtype: Dtype, here: jax.sharding.Sharding) -> dict[str, jax.Array]:
    if dtype == "float32":
        return found.place(dict.fromkeys(found.shapes, here))
    # Cast before they come to the device, which need never hold them in float32.
    return {path: jax.device_put(array.astype(jnp.dtype(dtype)), here) for path, array in found.hosts()}


def _row_length(found: stored.Stored) -> int:
    if found.run is not None:
        return max(stage.length for stage in found.run.stages)
    return getattr(found.config, "max_positions", _ANY_LENGTH)
