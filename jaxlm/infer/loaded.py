"""A model ready to use. In: a run folder, a model folder or a Hugging Face folder. Out: a `Loaded`.

Of a run the best checkpoint is used when it kept one, else the newest; the moving average of the weights when there is
one. Weights are float32, on the default device.
"""

import argparse
import dataclasses
import pathlib
from typing import Any

import jax

from jaxlm.config import Run, flags
from jaxlm.convert.table import check_names, nest
from jaxlm.convert.weights import Pickles
from jaxlm.data.places import expanded
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import model_folder, stored, tokenizer_files
from jaxlm.models.build import Model, build

_ANY_LENGTH = 2048  # of a model without a longest row


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


def of_options(options: argparse.Namespace) -> Loaded:
    """What a command names: hf, or run with step and config, a recipe that defines classes of the run."""
    if options.config:
        flags.load(options.config)
    return load_hf(options.hf) if options.hf else load(options.run, step=options.step)


def load(path: str | pathlib.Path, *, step: int | None = None) -> Loaded:
    """A run folder or a model folder. Raises UserError where there is none."""
    path = expanded(path)
    if not path.is_dir():
        raise UserError(
            f"{path}: no such folder. Name the --workdir of a run, or what convert_checkpoint.py made."
        )
    if step is None and not model_folder.is_one(path):
        step = stored.best_step(path)
    return _loaded(stored.open_stored(str(path), say=print, step=step))


def load_run(workdir: pathlib.Path, *, step: int | None = None) -> Loaded:
    """The same."""
    return load(workdir, step=step)


def load_hf(path: str | pathlib.Path, *, allow_pickle: Pickles = "refuse") -> Loaded:
    """A Hugging Face folder, or a .gguf file, without a conversion on disk."""
    found = stored.of_hf(path, allow_pickle=allow_pickle)
    check_names(found.missing, found.unexpected, found.where)
    return _loaded(found)


def _loaded(found: stored.Stored) -> Loaded:
    model = build(found.config, dtype="float32")
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    tokenizer = tokenizer_files.open_files(found.tokenizer, found.where)
    tokenizer_files.check_size(tokenizer, found.config.vocab_size, found.where)
    return Loaded(
        model_config=found.config,
        tokenizer=tokenizer,
        model=model,
        params=nest(found.place(dict.fromkeys(found.shapes, here))),
        step=found.step,
        row_length=_row_length(found),
        where=found.where,
        stored=found,
        run=found.run,
    )


def _row_length(found: stored.Stored) -> int:
    if found.run is not None:
        return max(stage.length for stage in found.run.stages)
    return getattr(found.config, "max_positions", _ANY_LENGTH)
