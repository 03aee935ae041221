"""Programs for machines that are not here. In: a function, the shapes of weights, a platform. Out: bytes, a signature.

A program is traced as its target: layers ask the mesh that is set where they run (`kernels.platform`), and it says so.
Guaranteed: no weight is inside, and no path of a source file; attention is plain XLA, without kernels whose calls no
version promises to keep; lengths and rows are symbols.
"""

import contextlib
import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from jaxlm.errors import UserError
from jaxlm.export.functions import Function
from jaxlm.models import stack
from jaxlm.models.apart import Apart
from jaxlm.models.build import Model, build
from jaxlm.models.paths import flatten

PLATFORMS = {"cpu": "cpu", "tpu": "tpu", "cuda": "gpu"}  # as jax.export calls them -> as devices do
ATTENTION = "xla"
_FRAMES = "jax_traceback_in_locations_limit"  # what a program says of the source of each of its lines


@dataclasses.dataclass(frozen=True)
class Program:
    """One function for one platform."""

    data: bytes
    outputs: dict[str, jax.ShapeDtypeStruct]
    convention: int  # version of jax.export's calling convention


def require() -> None:
    """UserError without what jax.export writes files with, which jax does not bring."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError(
            "programs of jax.export are written with flatbuffers, which is not installed. Fix: pip install "
            "'jaxlm[stablehlo]'."
        )


def plain(model: Model) -> Model:
    """The same model with plain attention everywhere."""
    return build(dataclasses.replace(model.config, attention=ATTENTION), model.heads, dtype=model.dtype)


def weights(model: Model, params: Any, platform: str) -> list[tuple[str, int | None]]:
    """What programs take, in order: a leaf of the parameters by its path, or of one that is stacked a layer's part.

    Where layers are unrolled they are taken apart beforehand: a call would otherwise copy all of them, which costs
    more than a token of a decoder.
    """
    found: list[tuple[str, int | None]] = []
    axes = flatten(model.axes)
    with _as_target(platform):
        for name, leaf in named(params).items():
            of = name
            while of and of not in axes:  # a leaf of a value that stands for a weight
                of = of.rpartition("/")[0]
            apart = axes.get(of, ())[:1] == ("layers",) and (
                stack.resolved(model.config.layer_loop, leaf.shape[0]) == "unrolled"
            )
            found += [(name, layer) for layer in range(leaf.shape[0])] if apart else [(name, None)]
    return found


def named(params: Any) -> dict[str, Any]:
    """The leaves of the parameters by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(at, simple=True, separator="/"): leaf for at, leaf in leaves}


def _whole(parts: Sequence[Any], taken: Sequence[tuple[str, int | None]]) -> list[Any]:
    """The leaves out of what a program takes; those of unrolled layers stay apart."""
    by_name: dict[str, list[Any]] = {}
    for part, (name, _) in zip(parts, taken, strict=True):
        by_name.setdefault(name, []).append(part)
    stacked = {name for name, layer in taken if layer is not None}
    return [Apart(parts) if name in stacked else parts[0] for name, parts in by_name.items()]


def traced(name: str, function: Function, model: Model, params: Any, platform: str) -> Program:
    """The program takes (the list that `weights` tells, inputs by name) and returns outputs by name.

    `params`: the parameters, or their shapes. UserError for a model whose work depends on how large its inputs are.
    """
    leaves, structure, taken = named(params), jax.tree.structure(params), weights(model, params, platform)
    shapes = [
        jax.ShapeDtypeStruct(leaves[path].shape[layer is not None :], leaves[path].dtype)
        for path, layer in taken
    ]

    def program(parts: Sequence[Any], given: dict[str, Any]) -> dict[str, Any]:
        return dict(function.compute(model.bind(jax.tree.unflatten(structure, _whole(parts, taken))), given))

    with _as_target(platform), _without_places():
        try:
            made = export.export(jax.jit(program), platforms=[platform])(shapes, dict(function.inputs))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise UserError(
                f"--format=stablehlo: {name} of {type(model.config).__name__} cannot be traced for rows of any number "
                f"and length ({type(error).__name__}: {str(error).splitlines()[0][:200]}). Fix: --format=safetensors."
            ) from error
    outputs = jax.tree.unflatten(made.out_tree, made.out_avals)
    return Program(bytes(made.serialize()), outputs, made.calling_convention_version)


@contextlib.contextmanager
def _as_target(platform: str) -> Iterator[None]:
    device = AbstractDevice(device_kind=platform, num_cores=None, platform=PLATFORMS[platform])
    mesh = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        yield


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    before = getattr(jax.config, _FRAMES)
    jax.config.update(_FRAMES, 0)
    try:
        yield
    finally:
        jax.config.update(_FRAMES, before)
