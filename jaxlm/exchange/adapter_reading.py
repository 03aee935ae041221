"""A PEFT folder becomes the model that it and its base make. In: the folder of an adapter, and its base. Out: weights.

Taken are LoRA (also scaled by the root of the rank, DoRA, and ranks that differ), AdaLoRA and IA3, with modules that
were saved whole, and what adapter_context.py says. Guaranteed: every tensor of the adapter has found its place in the
base, with its shape; weights are merged in float32 one at a time, as they are read.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.exchange import adapter_context
from jaxlm.exchange.adapter_context import CONFIG, TENSORS
from jaxlm.formats import safetensors_file, weights
from jaxlm.formats.folder import Folder
from jaxlm.formats.source import Entry, Index, Tensors

PREFIX = "base_model.model."
BASE = "jaxlm_base"  # key of the file's metadata: `identity` of the base
_TAKEN = ("LORA", "ADALORA", "IA3", *adapter_context.KINDS)
_PART = re.compile(r"(.+)\.(lora_A|lora_B|lora_E|lora_magnitude_vector|ia3_l)(\.weight)?")
_ROWS = 4  # of every weight, that say which base it is

Parts = dict[str, np.ndarray]


def about(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The config of an adapter's folder; None: it is none."""
    folder = os.path.expanduser(path)
    return Folder(folder).json(CONFIG) if (pathlib.Path(folder) / CONFIG).is_file() else None


def open_folder(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    base: str = "",
    *,
    allow_pickle: weights.Pickles = "refuse",
) -> weights.Weights:
    """The base with the adapter merged into it, where it merges.

    `config`: what `about` says; `base`: its folder, if not where that says. UserError for what is not right, another
    base above all.
    """
    found, adapter = opened(path, config, base, allow_pickle=allow_pickle)
    if adapter is None:
        return found
    return dataclasses.replace(found, source=adapter.merged(), config=_with_labels(found.config, adapter))


def opened(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    base: str = "",
    *,
    allow_pickle: weights.Pickles = "refuse",
) -> "tuple[weights.Weights, Adapter | None]":
    """The base, and what acts on its weights; None: what stands in front of its texts (adapter_context.py)."""
    folder = Folder(os.fspath(path))
    where = str(folder.path)
    kind = config.get("peft_type")
    if kind not in _TAKEN:
        raise UserError(f"{where}/{CONFIG}: peft_type={kind!r}; taken are {', '.join(_TAKEN)}.")
    named = base.removeprefix("hf:") or str(config.get("base_model_name_or_path") or "")
    try:
        found = weights.open_folder(named or ".", allow_pickle=allow_pickle)
    except UserError as error:
        raise UserError(
            f"{where} is an adapter for {named or 'a base that it does not name'}, which cannot be read. {error} "
            "Fix: name the folder of its base with --base=DIR."
        ) from error
    if not folder.has(TENSORS):
        raise UserError(f"{where} has no {TENSORS}. Fix: save the adapter as safetensors.")
    if kind in adapter_context.KINDS:
        return found, None
    present = families.of_hf(found.config).current_name
    source = Tensors({present(n): entry for n, entry in found.source.entries.items()}, found.source.where)
    file = folder.file(TENSORS)
    adapter = Adapter(where, config, found.folder.path, source)
    adapter.take(safetensors_file.load(file), present)
    adapter.check_identity((safetensors_file.metadata(file) or {}).get(BASE))
    return found, adapter


def identity(tensors: Mapping[str, Callable[[Index], np.ndarray]]) -> str:
    """Hex SHA-256 of the first rows of every weight that an adapter acts on, in their names and layout."""
    state = hashlib.sha256()
    for name, read in sorted(tensors.items()):
        state.update(name.encode() + np.ascontiguousarray(read((slice(0, _ROWS),)), np.float32).tobytes())
    return state.hexdigest()


@dataclasses.dataclass
class Adapter:
    """The tensors of a folder, by what they act on in its base."""

    where: str
    config: Mapping[str, Any]
    base: pathlib.Path
    source: Tensors  # of the base, under present names

    def take(self, tensors: Mapping[str, np.ndarray], present: Callable[[str], str]) -> None:
        """Sorts the tensors by what they act on. UserError for one that has no place in the base."""
        self.parts: dict[str, Parts] = {}  # by name of the weight
        self.saved: Parts = {}  # whole
        for name, array in tensors.items():
            inner, array = name.removeprefix(PREFIX), array.astype(np.float32)
            if match := _PART.fullmatch(inner):
                self.parts.setdefault(present(match[1] + ".weight"), {})[match[2]] = array
            else:
                self.saved[present(re.sub(r"\.(modules_to_save|base_layer)\b", "", inner))] = array
        for name, parts in self.parts.items():
            if not self._fits(name, parts):
                acts = ", ".join(f"{part} {array.shape}" for part, array in parts.items())
                has = f"of shape {self.source.shape(name)}" if name in self.source else "not there"
                raise self._refused(f"{name}, which it acts on ({acts}), is {has}")
        for name, array in self.saved.items():
            if name in self.source and self.source.shape(name) != array.shape:
                raise self._refused(f"it holds {name} of shape {array.shape}, not {self.source.shape(name)}")

    def check_identity(self, known: str | None) -> None:
        """UserError when the file says which base it was trained on, and this is another."""
        read = lambda name: lambda index: self.source.read(name, index)
        if known is not None and known != identity({name: read(name) for name in self.parts}):
            raise self._refused("the weights it was trained on have the same shapes and other numbers")

    def merged(self) -> Tensors:
        """The base's tensors, with the adapter in those it acts on."""
        entries = dict(self.source.entries)
        file = next(iter(entries.values())).file

        def put(name: str, shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> None:
            entries[name] = Entry(shape, np.dtype("float32"), lambda index: read()[index], file)

        for name, array in self.saved.items():
            put(name, array.shape, lambda array=array: array)
        for name in self.parts:
            put(name, self.source.shape(name), functools.partial(self._weight, name))
            bias = name.removesuffix("weight") + "bias"
            if self._scales_outputs(name) and bias in entries:
                put(bias, entries[bias].shape, functools.partial(self._bias, name, entries[bias]))
        return Tensors(entries, f"{self.where} on {self.source.where}")

    def _bias(self, name: str, entry: Entry) -> np.ndarray:
        """The bias behind a weight whose outputs are scaled."""
        return entry.read(()).astype(np.float32) * self.parts[name]["ia3_l"].ravel()

    def _weight(self, name: str) -> np.ndarray:
        """The merged weight, float32."""
        parts, base = self.parts[name], self.source.read(name).astype(np.float32)
        # Ours and PyTorch's lie as (outputs, inputs); Conv1D's the other way.
        turn = (lambda a: a.T) if self.config.get("fan_in_fan_out") else (lambda a: a)
        if "ia3_l" in parts:
            return base * turn(parts["ia3_l"])
        rows = parts["lora_A"] * parts["lora_E"] if "lora_E" in parts else parts["lora_A"]
        made = base + turn(self._scale(name, rows.shape[0]) * (parts["lora_B"] @ rows))
        if "lora_magnitude_vector" not in parts:
            return made
        norm = np.linalg.norm(turn(made), axis=1)
        return turn(turn(made) * (parts["lora_magnitude_vector"].ravel() / norm)[:, None])

    def thin(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """(A, B) of a weight that B A is added to, as (rank, inputs), (outputs, rank); None: of another method."""
        parts = self.parts[name]
        if "ia3_l" in parts or "lora_magnitude_vector" in parts:
            return None
        rows = parts["lora_A"] * parts["lora_E"] if "lora_E" in parts else parts["lora_A"]
        return rows, self._scale(name, rows.shape[0]) * parts["lora_B"]

    def _scale(self, name: str, rank: int) -> float:
        alpha = float(_of_pattern(self.config.get("alpha_pattern"), name, self.config.get("lora_alpha", 8)))
        if self.config["peft_type"] == "ADALORA":
            return alpha / (self.config.get("init_r", 12) + 1e-5)
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)

    def _fits(self, name: str, parts: Parts) -> bool:
        """Whether the base has such a weight, of the shape that these act on: (outputs, inputs), or the other way."""
        shape = self.source.shape(name) if name in self.source else ()
        shape = shape[::-1] if self.config.get("fan_in_fan_out") else shape
        if "ia3_l" in parts:
            inputs = parts["ia3_l"].shape[0] == 1
            return len(shape) == 2 and parts["ia3_l"].size == shape[inputs]
        if not {"lora_A", "lora_B"} <= parts.keys() or parts["lora_A"].shape[0] != parts["lora_B"].shape[1]:
            raise UserError(
                f"{self.where}: {TENSORS} has half a matrix of LoRA. Fetch or save the adapter again."
            )
        return shape == (parts["lora_B"].shape[0], parts["lora_A"].shape[1])

    def _scales_outputs(self, name: str) -> bool:
        return "ia3_l" in (parts := self.parts[name]) and parts["ia3_l"].shape[0] != 1

    def _refused(self, why: str) -> UserError:
        return UserError(
            f"{self.where} is an adapter for another base than {self.base}: {why}. Fix: name the one it was trained on "
            "with --base=DIR."
        )


def _of_pattern(pattern: Mapping[str, Any] | None, name: str, otherwise: Any) -> Any:
    module = name.removesuffix(".weight")
    return next(
        (value for key, value in (pattern or {}).items() if re.fullmatch(rf"(.*\.)?({key})", module)),
        otherwise,
    )


def _with_labels(config: Mapping[str, Any], adapter: Adapter) -> Mapping[str, Any]:
    """config.json with as many classes as a saved classifier has, and the class of model that has one."""
    head = adapter.saved.get("classifier.weight", adapter.saved.get("score.weight"))
    if head is None or len(config.get("id2label") or ()) == len(head):
        return config
    kind = {"TOKEN_CLS": "ForTokenClassification", "SEQ_CLS": "ForSequenceClassification"}
    name = kind.get(str(adapter.config.get("task_type")), "ForSequenceClassification")
    labels = {str(i): f"LABEL_{i}" for i in range(len(head))}
    return {**config, "id2label": labels, "architectures": [name]}
