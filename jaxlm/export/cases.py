"""What a check asks. In: a manifest. Out: calls with random ids in padded rows of several shapes, and comparisons.

A call of `decode` goes on with the cache of the call before it, as who writes text does.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxlm.export.formats import Difference
from jaxlm.export.functions import Function
from jaxlm.infer.loaded import Loaded

ALLOWED = 2e-5  # of the largest of our outputs, or of 1: rounding of float32 in another order
_SHAPES = ((3, 16), (2, 40))  # rows, tokens
_STEPS = 3  # of decoding
_GENERATING = ("encode", "prefill", "decode")


@dataclasses.dataclass(frozen=True)
class Case:
    """One call; `kept`: inputs that are outputs of the call of that number."""

    function: str
    given: Mapping[str, np.ndarray]
    kept: Mapping[str, int] = dataclasses.field(default_factory=dict)


def of(manifest: Mapping[str, Any], *, vocab: int) -> list[Case]:
    """Calls of every function."""
    rng, found = np.random.default_rng(0), []
    shapes = [(rows, min(length, manifest["limits"].get("T", length))) for rows, length in _SHAPES]
    for name, said in manifest["functions"].items():
        if name not in _GENERATING:
            wanted = [one["name"] for one in said["inputs"]]
            several = shapes if wanted else shapes[:1]
            found += [Case(name, {k: _row(rng, vocab, *one)[k] for k in wanted}) for one in several]
    if "decode" in manifest["functions"]:
        found += _written(manifest, rng, vocab, len(found))
    return found


def _row(rng: np.random.Generator, vocab: int, rows: int, length: int) -> dict[str, np.ndarray]:
    """Rows of unequal length, padded behind."""
    sizes = np.linspace(max(length // 3, 1), length, rows).astype(int)
    mask = (np.arange(length)[None] < sizes[:, None]).astype(np.int32)
    tokens = rng.integers(0, vocab, (rows, length)).astype(np.int32) * mask
    return {"tokens": tokens, "mask": mask, "types": np.zeros_like(mask)}


def _written(manifest: Mapping[str, Any], rng: np.random.Generator, vocab: int, number: int) -> list[Case]:
    """A prompt, and tokens behind it."""
    rows, length = 3, min(11, manifest["limits"].get("S", 11) - _STEPS)
    named = {one["name"]: one for one in manifest["functions"]["decode"]["inputs"]}
    sizes: dict[Any, Any] = {"B": rows, "S": length + _STEPS}
    found, kept = [], {}
    if "encode" in manifest["functions"]:
        source = _row(rng, vocab, rows, length)
        found.append(Case("encode", {name: source[name] for name in ("tokens", "mask")}))
        kept = {one["name"]: number for one in manifest["functions"]["encode"]["outputs"]}
    cache = [name for name in named if name.startswith("cache/")]
    empty = {
        name: np.zeros([sizes.get(dim, dim) for dim in named[name]["shape"]], named[name]["dtype"])
        for name in cache
        if name not in kept
    }
    prompt = _row(rng, vocab, rows, length)
    given = {"tokens": prompt["tokens"][:, ::-1], "lengths": prompt["mask"].sum(axis=1, dtype=np.int32)}
    found.append(Case("prefill", {**given, **empty}, kept))
    for _ in range(_STEPS):
        token = rng.integers(0, vocab, (rows,)).astype(np.int32)
        found.append(Case("decode", {"token": token}, dict.fromkeys(cache, number + len(found) - 1)))
    return found


def save(path: pathlib.Path, asked: Sequence[Case]) -> None:
    """A file that stablehlo_replay.py reads."""
    calls = [{"function": one.function, "given": list(one.given), "kept": dict(one.kept)} for one in asked]
    arrays = {f"{i}:{name}": value for i, one in enumerate(asked) for name, value in one.given.items()}
    np.savez(path, calls=np.frombuffer(json.dumps(calls).encode(), np.uint8), **arrays)  # type: ignore[arg-type]


def load(path: pathlib.Path, number: int) -> list[dict[str, np.ndarray]]:
    """The outputs of every call."""
    found: list[dict[str, np.ndarray]] = [{} for _ in range(number)]
    with np.load(path) as arrays:
        for key in arrays.files:
            at, _, name = key.partition(":")
            found[int(at)][name] = arrays[key]
    return found


def computed(
    asked: Sequence[Case], ready: Loaded, functions: Mapping[str, Function]
) -> list[dict[str, np.ndarray]]:
    """The same calls, by the model as it is here."""
    found: list[dict[str, np.ndarray]] = []
    jitted = {name: jax.jit(function.compute) for name, function in functions.items()}
    with jax.set_mesh(ready.mesh):
        for one in asked:
            given = {**one.given, **{name: found[at][name] for name, at in one.kept.items()}}
            found.append(jax.device_get(dict(jitted[one.function](ready.module, given))))
    return found


def differences(
    asked: Sequence[Case], theirs: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]
) -> list[Difference]:
    """The largest of every function, over all shapes and outputs."""
    found: dict[str, Difference] = {}
    for case, their, our in zip(asked, theirs, ours, strict=True):
        gaps = [0.0, *(_gap(their[name], value) for name, value in our.items())]
        most = max([1.0, *(float(np.abs(value).max()) for value in our.values())])
        one = found.get(case.function, Difference(case.function, 0.0, ALLOWED))
        largest, allowed = float(np.max([one.largest, *gaps])), max(one.allowed, ALLOWED * most)
        found[case.function] = Difference(case.function, largest, allowed)
    return list(found.values())


def _gap(their: np.ndarray, our: np.ndarray) -> float:
    if their.shape != our.shape:
        return float("inf")
    return float(np.abs(their.astype(np.float64) - our.astype(np.float64)).max(initial=0.0))
