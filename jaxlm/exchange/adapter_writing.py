"""What a run trained beside its base becomes a PEFT folder. In: a run with one view. Out: what `peft` loads.

LoRA (also scaled by the root of the rank), DoRA, AdaLoRA and IA3, with heads trained whole; prompts and prefixes.
Guaranteed: `peft` on the same base computes what the run does; the folder appears complete or not at all; what PEFT
has no place for is refused. Where transformers has one matrix for several of ours (GPT-2's c_attn), the thin matrices
of all stand in one of as many times the rank.
"""

import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.config import Run
from jaxlm.convert import families, table
from jaxlm.convert.heads import CLASSES
from jaxlm.convert.table import Row
from jaxlm.errors import UserError
from jaxlm.exchange import adapter_context, adapter_own, adapter_reading, bases, model_folder, stored
from jaxlm.exchange.adapter_reading import CONFIG, PREFIX, TENSORS
from jaxlm.formats import safetensors_file
from jaxlm.models.build import Model
from jaxlm.models.paths import flatten
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import SPLIT
from jaxlm.views import IA3, AdaLoRA, DoRA, LoRA, Prefix, Prompt
from jaxlm.views.view import Facts, View, facts

_TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "MTModel": "SEQ_2_SEQ_LM",
}
_FORMATS = (LoRA, IA3, Prompt, Prefix)
_HEADS = tuple(f"heads/{name}/" for name in CLASSES)
_TABLES = ("vocab", "positions", "types", "buckets")
_LEAVE = "Fix: leave --adapter out, which exports the whole model."


def to_peft(
    path: pathlib.Path,
    target: pathlib.Path,
    *,
    say: Callable[[str], None],
    step: int | None = None,
    base: str = "",
) -> None:
    """Writes the folder `target`, of a method that PEFT does not have as adapter_own.py. Step and base as in
    `exporting.to_hf`. UserError for what PEFT has no place for."""
    step = stored.best_step(path) if step is None and not model_folder.is_one(path) else step
    found = stored.open_stored(str(path), say=say, step=step)
    run = _checked(found)
    program, trained, frozen = bases.opened(found, base, meshes.local(SPLIT))
    view, *others = run.view
    if others or not isinstance(view, _FORMATS):
        adapter_own.write(target, found, flatten(jax.device_get(trained)), run.init_from)
        methods = ", ".join(type(one).__name__ for one in run.view)
        say(f"{target}: {methods}, which PEFT has no format for: read by jaxlm alone, from {found.where}")
        return
    model = program.model
    config = write(target, view, model, trained, frozen["0"], base=run.init_from, steps=run.steps)
    say(f"{target}: {config['peft_type']}, {config['task_type'] or 'no task of its own'}, from {found.where}")


def write(
    target: pathlib.Path, view: View, model: Model, trained: Any, frozen: Any, *, base: str, steps: int
) -> dict[str, Any]:
    """Writes the folder of what a view of a model has trained; returns its config. `base`: what it names as that."""
    arrays, metadata = flatten(jax.device_get(trained)), {"format": "pt"}
    named = {"base_model_name_or_path": base.removeprefix(stored.HF) or None, "inference_mode": True}
    if isinstance(view, Prompt | Prefix):
        tensor, config = adapter_context.written(view, model.config, arrays)
        tensors = {adapter_context.TENSOR: tensor}
    else:
        assert isinstance(view, LoRA | IA3)
        held = flatten(jax.device_get(frozen))
        rows, written = families.rows(model.config, model.heads), _written(view, model, arrays, held)
        if view.frozen == "float32":
            metadata[adapter_reading.BASE] = written.identity(rows, held)
        hf = families.to_hf_config(model.config, model.heads)
        tensors, config = written.tensors, written.config(hf["architectures"][0], steps)
    with model_folder.new_folder(target) as partial:
        described = {name: (x.shape, x.dtype) for name, x in tensors.items()}
        places = safetensors_file.create(partial / TENSORS, described, metadata)
        for name, array in tensors.items():
            places.array(name)[...] = array
        (partial / CONFIG).write_text(json.dumps(config | named, indent=2) + "\n")
    return config


def _written(
    view: LoRA | IA3, model: Model, arrays: Mapping[str, Any], base: Mapping[str, Any]
) -> "_Written":
    """All tensors of what was trained, by path, beside weights of the base or whole."""
    written, known = _Written(view, families.sizes(model.config)), facts(model)
    shapes = flatten(model.shapes)
    for row in families.rows(model.config, model.heads):
        own = {p.rpartition("/")[2]: x for p, x in arrays.items() if p.rpartition("/")[0] == row.ours}
        head = row.ours.startswith(_HEADS)  # peft asks for it, trained or not
        if own and head:
            raise UserError(f"PEFT saves {row.ours} whole, and here something stands beside it. {_LEAVE}")
        if row.ours in arrays or head:
            written.whole(row, np.asarray(arrays.get(row.ours, base.get(row.ours)), np.float32))
        elif own:
            written.beside(row, known[row.ours], shapes[row.ours].shape, own)
    return written


def _checked(found: stored.Stored) -> Run:
    """A run that trains something beside its base. UserError for another."""
    if found.run is not None and found.run.view:
        return found.run
    raise UserError(
        f"{found.where} has no view: everything of it was trained, and there is no adapter. {_LEAVE}"
    )


class _Written:
    """Tensors under their names, and what the config says of them."""

    def __init__(self, view: LoRA | IA3, sizes: Mapping[str, int]):
        self.view, self.sizes = view, sizes
        self.tensors: dict[str, np.ndarray] = {}
        self.parts: dict[str, list[int]] = {}  # module: which parts of how many were written
        self.count: dict[str, int] = {}
        self.fed: list[str] = []  # modules whose inputs are scaled
        self.saved: set[str] = set()
        self.turned: set[bool] = set()

    def whole(self, row: Row, array: np.ndarray) -> None:
        """A parameter that was trained as it is."""
        if row.part is not None:
            raise UserError(f"{row.ours} was trained whole, and is only a part of {row.theirs}. {_LEAVE}")
        for name, shape in table.their_shapes([row], {row.ours: array}, self.sizes).items():
            self.tensors[PREFIX + name] = np.zeros(shape, np.float32)
            module = name.rpartition(".")[0]
            self.saved.add("classifier" if module.startswith("classifier.") else module)
        named = {name: self.tensors[PREFIX + name] for name in row.names(array.shape)}
        table.write(row, array, named, self.sizes)

    def beside(self, row: Row, one: Facts, shape: tuple[int, ...], own: Mapping[str, np.ndarray]) -> None:
        """What stands beside a weight."""
        if not row.theirs.endswith(".weight") or {*one.axes} & {*_TABLES, "experts"}:
            raise UserError(
                f"{row.ours} is no matrix of attention, MLP or a head: PEFT has no place. {_LEAVE}"
            )
        groups, ours = table.letters(row, len(shape) - row.stacked)
        inner, outer = ours[: one.inputs], ours[one.inputs :]
        self.turned.add(groups[0] == inner)
        theirs = next(group for group in groups if set(outer) <= set(group))
        part, count = row.part or (0, 1)
        for name in row.names(shape):
            self.parts.setdefault(name.removesuffix(".weight"), []).append(part)
            self.count[name.removesuffix(".weight")] = count
        put = functools.partial(self._put, row, part, count)
        for name, array in own.items():
            match name:
                case "lora_a":
                    put(array, "lora_A", f"R {table.group(inner)} -> {' '.join(inner)} R", ranks=0)
                case "lora_b":
                    put(array, "lora_B", f"{table.group(theirs)} R -> R {' '.join(outer)}", ranks=1)
                case "lora_e":
                    put(array[..., None], "lora_E", "R U -> R U", ranks=0)
                case "magnitude":
                    put(array, "lora_magnitude_vector", f"{table.group(theirs)} -> {' '.join(outer)}")
                case "ia3_in":
                    flat = array.reshape(*array.shape[: row.stacked + one.inputs], 1)
                    put(flat, "ia3_l", f"U {table.group(inner)} -> {' '.join(inner)} U", start=1.0)
                    self.fed += [name.removesuffix(".weight") for name in row.names(shape)]
                case "ia3_out":
                    flat = array.reshape(
                        *array.shape[: row.stacked], *array.shape[row.stacked + one.inputs :], 1
                    )
                    put(flat, "ia3_l", f"{table.group(theirs)} U -> {' '.join(outer)} U", start=1.0)

    def _put(
        self,
        row: Row,
        part: int,
        count: int,
        array: np.ndarray,
        name: str,
        axes: str,
        *,
        ranks: int | None = None,
        start: float = 0.0,
    ) -> None:
        """Writes an array as part of theirs; `ranks`: the axis along which the ranks of all parts stand."""
        split = "P" in axes
        plain = isinstance(self.view, AdaLoRA | IA3) or name == "lora_magnitude_vector"
        theirs = row.theirs.removesuffix("weight") + name + ("" if plain else ".weight")
        made = Row(row.ours, theirs, axes, part=(part, count) if split else None, layers=row.layers)
        places = {}
        for found, shape in table.their_shapes([made], {row.ours: array}, self.sizes).items():
            size = [n * count if axis == ranks else n for axis, n in enumerate(shape)]
            whole = self.tensors.setdefault(PREFIX + found, np.full(size, start, np.float32))
            if ranks is not None:
                rank = shape[ranks]
                whole = whole[(slice(None),) * ranks + (slice(part * rank, (part + 1) * rank),)]
            places[found] = whole
        table.write(made, array, places, self.sizes)

    def identity(self, rows: Sequence[Row], base: Mapping[str, Any]) -> str:
        """Of the base's weights that something stands beside."""
        names = {f"{module}.weight" for module in self.parts}
        mine = [
            row for row in rows if names & {*row.names(base[row.ours].shape if row.ours in base else (0,))}
        ]
        shapes = table.their_shapes(mine, base, self.sizes)
        tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        for row in mine:
            table.write(row, np.asarray(base[row.ours]), tensors, self.sizes)
        return adapter_reading.identity({name: tensors[name].__getitem__ for name in names})

    def config(self, architecture: str, steps: int) -> dict[str, Any]:
        """adapter_config.json."""
        view, modules = self.view, sorted(self.parts)
        if len(self.turned) > 1:
            raise UserError(f"PEFT holds matrices of one layout, and these are of two: {modules}. {_LEAVE}")
        kind = next((task for end, task in _TASKS.items() if architecture.endswith(end)), None)
        config: dict[str, Any] = {
            "peft_type": "IA3"
            if isinstance(view, IA3)
            else "ADALORA"
            if isinstance(view, AdaLoRA)
            else "LORA",
            "task_type": kind,
            "target_modules": modules,
            "fan_in_fan_out": True in self.turned,
            "modules_to_save": sorted(self.saved) or None,
        }
        if isinstance(view, IA3):
            return config | {"feedforward_modules": self.fed}
        config |= {"lora_alpha": view.alpha, "lora_dropout": 0.0, "bias": "none"}
        several = {module: n for module, n in self.count.items() if n > 1}
        if isinstance(view, AdaLoRA):
            if several:
                raise UserError(
                    f"PEFT's AdaLoRA has one rank for all, and {min(several)} is several. {_LEAVE}"
                )
            ranks = {"init_r": view.rank, "r": view.rank, "target_r": view.target_rank}
            return config | ranks | {"total_step": steps, "tinit": 0, "tfinal": 0}
        if isinstance(view, DoRA) and (lacks := [m for m, n in several.items() if len(self.parts[m]) < n]):
            raise UserError(
                f"{lacks[0]} was trained in part, and PEFT's DoRA has a magnitude for all. {_LEAVE}"
            )
        root = view.scaling == "sqrt"
        alpha = lambda n: view.scale * ((n * view.rank) ** 0.5 if root else n * view.rank)
        config |= {"r": view.rank, "use_rslora": root, "use_dora": isinstance(view, DoRA)}
        config |= {"rank_pattern": {module: n * view.rank for module, n in several.items()}}
        return config | {"alpha_pattern": {module: alpha(n) for module, n in several.items()}}
