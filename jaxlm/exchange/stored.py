"""Weights that exist, whatever they are kept in. In: `hf:DIR`, a run folder, or a model folder. Out: a `Stored`.

Guaranteed: a parameter is read straight onto the devices that hold it, each reading its own part; on the host there is
never more than one parameter of ours (all layers of one weight).
"""

import dataclasses
import gc
import math
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.checkpoint.opened import names_step, open_run
from jaxlm.checkpoint.policy import best_first
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Run, averaged
from jaxlm.config.folder import RunFolder, run_of
from jaxlm.convert import families
from jaxlm.convert.heads import CLASSES
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.exchange import adapter_context, adapter_own, adapter_reading, held, model_folder, tokenizer_files
from jaxlm.formats import weights
from jaxlm.formats.folder import Folder, parse
from jaxlm.models.heads import Head
from jaxlm.models.paths import flatten, nest
from jaxlm.runtime import distributed

HF = "hf:"


def is_foreign(name: str) -> bool:
    """Whether a name means what others made: a Hugging Face folder as hf:DIR, or a .gguf file."""
    return name.startswith(HF) or name.endswith(".gguf")


_GROUP_BYTES = 2**25
FLOAT32 = np.dtype("float32")


class Place(Protocol):
    """Reads parameters: path -> sharding, to path -> array. Other dtypes are made on the host, piece by piece."""

    def __call__(
        self, wanted: Mapping[str, jax.sharding.Sharding], dtype: np.dtype = FLOAT32
    ) -> dict[str, jax.Array]: ...


@dataclasses.dataclass(frozen=True)
class Stored:
    """Weights, and what is known of them."""

    where: str  # for messages
    config: Any  # of the model
    heads: Mapping[str, Head]  # on it, by name
    shapes: Mapping[str, Any]  # what is there, by path
    place: Place
    tokenizer: Mapping[str, bytes]  # its files
    fingerprint: str  # of the tokenizer, where it was recorded
    step: int = 0
    run: Run | None = None
    root: pathlib.Path | None = None  # of a checkpoint its run folder
    missing: tuple[str, ...] = ()  # their names, of a Hugging Face folder
    unexpected: tuple[str, ...] = ()
    folder: model_folder.ModelFolder | None = None
    hf: weights.Weights | None = None
    plan: families.Match | None = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    values: Place | None = None  # as `place`; compressed weights as the values they are. None: there are none
    compressed: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # those values, arrays as shapes
    remade: Mapping[str, bytes] = dataclasses.field(default_factory=dict)  # in place of files that came

    def settings(self, name: str) -> Mapping[str, Any]:
        """config.json or generation_config.json as they came with the weights; {} where there is none."""
        if self.hf is not None and name == "config.json" and name not in self.remade:
            return self.hf.config
        text = self.beside(name)
        return {} if text is None else parse(text, f"{self.where}/{name}")

    def class_names(self) -> Mapping[str, tuple[str, ...]]:
        """What the classes of its heads are called, in order, by name of the head: as its run or config.json says."""
        if self.run is not None:
            return getattr(self.run.objective, "class_names", {})  # which several tasks have not
        named = self.settings("config.json").get("id2label") or {}
        names = tuple(str(named[i]) for i in sorted(named, key=int))
        return {head: names for head in self.heads if head in CLASSES and names}

    def beside(self, name: str) -> str | None:
        """The text of a file that came with the weights or their tokenizer; None where there is none."""
        if (made := self.tokenizer.get(name) or self.remade.get(name)) is not None:
            return made.decode()
        if self.hf is not None:
            folder = self.hf.folder
        elif self.folder is not None and self.folder.origin_files.is_dir():
            folder = Folder(self.folder.origin_files)
        else:
            return None
        return folder.text(name) if folder.has(name) else None

    def host(self, path: str) -> np.ndarray:
        """One parameter on the host."""
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return np.asarray(self.place({path: here})[path])

    def hosts(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every parameter on the host, the large ones alone, small ones together (a read costs a tenth of a second)."""
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        for group in self._groups():
            arrays = self.place(dict.fromkeys(group, here))
            for name in group:
                yield name, np.asarray(arrays.pop(name))
            gc.collect()  # what orbax read stays in cycles: measured, all parameters without this

    def _groups(self) -> list[list[str]]:
        groups: list[list[str]] = [[]]
        filled = 0
        for path, leaf in self.shapes.items():
            size = math.prod(leaf.shape) * 4
            if groups[-1] and filled + size > _GROUP_BYTES:
                groups.append([])
                filled = 0
            groups[-1].append(path)
            filled += size
        return groups


def open_stored(
    name: str,
    *,
    say: Callable[[str], None],
    step: int | None = None,
    allow_pickle: weights.Pickles = "refuse",
) -> Stored:
    """Opens `hf:DIR`, a .gguf file, a run folder or a model folder. Of a run, the newest checkpoint unless `step` says
    which.

    With a moving average of the weights in the checkpoint, that is what is read. UserError for all that is not right.
    """
    if is_foreign(name):
        return of_hf(name.removeprefix(HF), allow_pickle=allow_pickle)
    path = expanded(name)
    if model_folder.is_one(path):
        return _of_folder(path, say)
    check_ours(path)
    checkpoints, newest = open_run(name, say=say)
    return of_run(checkpoints, newest if step is None else step, name)


def check_ours(path: pathlib.Path) -> None:
    """UserError for what looks like a Hugging Face folder, whose name begins with `hf:`."""
    if (path / "config.json").is_file() and not is_ours(path):
        raise UserError(
            f"{path} is not a run folder (no checkpoints). If it is a Hugging Face folder, write {HF}{path}."
        )


def is_ours(path: pathlib.Path) -> bool:
    """Whether there is a run folder or a model folder."""
    return model_folder.is_one(path) or (path / "checkpoints").is_dir()


def best_step(path: pathlib.Path) -> int:
    """The step to use of a run: the best kept of those that may be, else the newest; of one step's folder that one."""
    checkpoints, newest = open_run(path)
    if names_step(path):
        return newest
    run = run_of(checkpoints.meta(newest).get("config"), f"step {newest} of {path}", RunFolder(path))
    metrics = {s: checkpoints.metrics(s) for s in checkpoints.steps() if s >= averaged.final_from(run)}
    return next(iter(best_first(metrics, run.checkpoint.keep)), newest)


def of_hf(
    path: str | os.PathLike[str], *, allow_pickle: weights.Pickles = "refuse", base: str = ""
) -> Stored:
    """A Hugging Face folder, or a .gguf file; or a PEFT folder, merged into its base (`base`, or what it names); or an
    adapter of ours, which is a checkpoint of its run (`bases.merged`)."""
    about = adapter_reading.about(path)
    kind = about and about.get("peft_type")
    if about and kind == adapter_own.KIND:
        return Stored(**adapter_own.read(path, about))
    if about is not None:
        found = adapter_reading.open_folder(path, about, base, allow_pickle=allow_pickle)
    elif base:
        raise UserError(f"hf:{path} is no adapter, and --base is about one, or a run. Fix: leave --base out.")
    else:
        found = weights.open_folder(path, allow_pickle=allow_pickle)
    config = families.config_from_hf(found.config, list(found.source))
    heads = families.heads(config, found.source, found.config)
    plan = families.plan(found.source, config, heads)
    lacking = set(plan.lacking())
    context = adapter_context.values(path, kind, config)

    def place(wanted: Mapping[str, jax.sharding.Sharding], dtype: np.dtype = FLOAT32) -> dict[str, Any]:
        read = lambda path: lambda index: plan.read(path, index).astype(dtype, copy=False)
        shape = lambda path: tuple(plan.shapes[path].shape)
        made = {
            path: jax.make_array_from_callback(shape(path), where, read(path))
            for path, where in wanted.items()
        }
        return {path: context[path](array) if path in context else array for path, array in made.items()}

    return Stored(
        where=str(found.folder.path),
        config=config,
        heads=heads,
        shapes={path: shape for path, shape in plan.shapes.items() if path not in lacking},
        place=place,
        tokenizer=tokenizer_files.of_weights(found),
        fingerprint="",
        missing=plan.missing,
        unexpected=plan.unexpected,
        hf=found,
        plan=plan,
    )


def of_run(checkpoints: Checkpoints, step: int, name: str) -> Stored:
    """A checkpoint of a run."""
    step = distributed.from_main(step)  # the source may still be training: all hosts take one step
    meta = checkpoints.meta(step)
    root = pathlib.Path(os.fspath(checkpoints.directory)).parent
    run = run_of(meta.get("config"), f"step {step} of {name}", RunFolder(root))
    part = "ema" if run.averages else "params"
    heads = {name: head for name, head in run.heads.items() if not head.training_alone}
    unread = tuple(f"heads/{name}/" for name in run.heads.keys() - heads.keys())
    shapes = _shapes(checkpoints, step, part, run.heads)
    return Stored(
        where=f"step {step} of {name}",
        config=run.model,
        heads=heads,
        shapes={path: shape for path, shape in shapes.items() if not path.startswith(unread)},
        place=_restorer(checkpoints, step, part, run.heads),
        tokenizer=tokenizer_files.of_folder(root / "tokenizer"),
        fingerprint=meta["fingerprints"]["tokenizer"],
        step=step,
        run=run,
        root=root,
        meta=meta,
        metrics=checkpoints.metrics(step),
    )


def _of_folder(path: pathlib.Path, say: Callable[[str], None]) -> Stored:
    folder = model_folder.read(path)
    checkpoints, step = open_run(path, say=say)
    meta = checkpoints.meta(step)
    kept = held.Held(
        _shapes(checkpoints, step, "params", folder.heads),
        _restorer(checkpoints, step, "params", folder.heads),
        folder.forms,
    )
    return Stored(
        where=str(path),
        config=folder.config,
        heads=folder.heads,
        shapes=kept.whole_shapes,
        place=kept.whole,
        values=kept.values if folder.forms else None,
        compressed=kept.abstract,
        run=folder.run,
        tokenizer=tokenizer_files.of_folder(folder.tokenizer),
        fingerprint=meta["fingerprints"]["tokenizer"],
        step=step,
        folder=folder,
        meta=meta,
    )


def _shapes(checkpoints: Checkpoints, step: int, part: str, heads: Collection[str]) -> dict[str, Any]:
    arrays = checkpoints.arrays(step, [f"heads/{name}/" for name in heads])
    return {
        name.removeprefix(f"{part}/"): jax.ShapeDtypeStruct(tuple(array["shape"]), array["dtype"])
        for name, array in arrays.items()
        if name.startswith(f"{part}/")
    }


def _restorer(checkpoints: Checkpoints, step: int, part: str, heads: Collection[str]) -> Place:
    shapes = _shapes(checkpoints, step, part, heads)

    def place(wanted: Mapping[str, jax.sharding.Sharding], dtype: np.dtype = FLOAT32) -> dict[str, jax.Array]:
        like = {
            path: jax.ShapeDtypeStruct(shapes[path].shape, _kept(shapes[path].dtype, dtype), sharding=where)
            for path, where in wanted.items()
        }
        return flatten(checkpoints.restore_params(step, nest(like), part=part))

    return place


def _kept(stored: Any, asked: np.dtype) -> np.dtype:
    """Codes stay what they are."""
    return asked if jnp.dtype(stored).name in ("float32", "bfloat16", "float16") else jnp.dtype(stored)
