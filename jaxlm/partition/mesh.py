"""The mesh of devices. In: a size per mesh axis. Out: a jax Mesh with all six axes, of type Auto.

All axes exist on every machine (size 1 where unused), so that code can name them anywhere. On TPUs the
arrangement follows the torus; on several slices the axis `data` is the one that spans them.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType

from jaxlm.errors import UserError

# From least to most traffic: create_device_mesh gives the last axes the closest neighbours.
AXES = ("data", "stage", "fsdp", "expert", "context", "tensor")
BATCH_AXES = ("data", "fsdp", "expert", "stage")


@dataclasses.dataclass(kw_only=True)
class Mesh:
    """Devices per mesh axis; one of them may be -1, which takes what is left."""

    data: int = -1  # replicas of everything; spans slices
    fsdp: int = 1  # devices that share the batch and hold parts of the state
    # What fsdp splits: weights, gradients and moments of the optimizer (ZeRO-3), or all but the weights (ZeRO-1, 2)
    fsdp_splits: Literal["weights", "optimizer"] = "weights"
    # Where moments of the optimizer and averages of the weights lie between updates. host: in the host's memory; they
    # come to the devices and go back, parameter by parameter
    optimizer_memory: Literal["device", "host"] = "device"
    expert: int = 1  # devices that share the batch, and each hold a part of the experts of a mixture
    tensor: int = 1  # devices that share heads, MLP and vocabulary
    context: int = 1  # devices that share the positions of a row, for long rows
    stage: int = 1  # devices that have some of the layers each, through which parts of the batch go in turn

    def validate(self, where: str) -> None:
        """Raises UserError for the first size that cannot work on any machine."""
        for name in AXES:
            size = getattr(self, name)
            if not isinstance(size, int) or isinstance(size, bool) or (size < 1 and size != -1):
                raise UserError(
                    f"{where}.{name}={size!r}: must be a whole number of at least 1, or -1 (the rest)."
                )
        if len(rest := [name for name in AXES if getattr(self, name) == -1]) > 1:
            raise UserError(
                f"{where}: {' and '.join(rest)} are both -1; one axis at most can take what is left."
            )

    def sizes(self, devices: int, where: str) -> dict[str, int]:
        """Devices per axis on a machine with so many devices; UserError if they do not fit exactly."""
        self.validate(where)
        sizes = {name: getattr(self, name) for name in AXES}
        stated = math.prod(size for size in sizes.values() if size != -1)
        shown = " x ".join(f"{name}={size}" for name, size in sizes.items() if size > 1) or "all axes are 1"
        rest = next((name for name, size in sizes.items() if size == -1), None)
        if rest is None and stated != devices:
            raise UserError(
                f"{where}: {shown} needs {stated} devices, there are {devices}. "
                f"Fix: --{where.lstrip('-')}.data=-1 uses them all."
            )
        if rest is not None:
            if devices % stated:
                allowed = ", ".join(str(n) for n in range(1, devices + 1) if devices % n == 0)
                raise UserError(
                    f"{where}: {shown} ({stated} together) does not divide the {devices} devices. "
                    f"The product of the stated sizes must be one of {allowed}."
                )
            sizes[rest] = devices // stated
        return sizes


# What reads a model splits its weights over all devices, so that they hold one that is too large for each.
SPLIT = Mesh(data=1, fsdp=-1)


def make(config: Mesh, devices: Sequence[Any] | None = None, where: str = "config.mesh") -> jax.sharding.Mesh:
    """The mesh over `devices` (default: all). UserError when they cannot be arranged as asked."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = config.sizes(len(devices), where)
    # jax.make_mesh defaults to Explicit axes, under which unprepared code fails; Auto is meant, and said.
    return jax.sharding.Mesh(arrange(sizes, devices, where), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def local(config: Mesh) -> jax.sharding.Mesh:
    """The mesh over this host's devices, the first ones where all sizes are stated. UserError as in `make`."""
    devices = jax.local_devices()
    stated = math.prod(getattr(config, name) for name in AXES)
    return make(config, devices[:stated] if stated > 0 else devices, "--mesh")


def arrange(sizes: dict[str, int], devices: Sequence[Any], where: str) -> np.ndarray:
    """The devices as an array with one dimension per mesh axis; several TPU slices lie along `data`."""
    shape = tuple(sizes[name] for name in AXES)
    # GPUs and CPUs have slice_index too in places; their network is flat enough for any axis.
    slices = len({getattr(d, "slice_index", 0) for d in devices}) if devices[0].platform == "tpu" else 1
    if slices == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    if sizes["data"] % slices:
        raise UserError(
            f"{where}.data={sizes['data']}: must be a multiple of the {slices} TPU slices, as only the axis "
            f"data spans slices. Make the other axes smaller: together at most {len(devices) // slices}."
        )
    inner = (sizes["data"] // slices, *shape[1:])
    outer = (slices, *(1 for _ in shape[1:]))
    return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)


def row_devices(mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh) -> int:
    """How many devices have rows of their own."""
    return math.prod(mesh.shape.get(name, 1) for name in BATCH_AXES)


def lines(mesh: jax.sharding.Mesh, axis: str) -> int:
    """Into how many lines of a TPU's torus the devices of a mesh axis fall, one line after the other; 1: into none."""
    along = np.moveaxis(mesh.devices, mesh.axis_names.index(axis), 0).reshape(mesh.shape[axis], -1)[:, 0]
    return lines_of(np.array([getattr(device, "coords", ()) for device in along]))


def lines_of(places: np.ndarray) -> int:
    """`lines` of devices at these places, [N, dimensions of the torus]."""
    for number in range(places.shape[1]):
        line_N, others_N = places[:, number], np.delete(places, number, axis=1)
        count = len(set(line_N.tolist()))
        length = len(places) // count
        is_in_order = np.array_equal(line_N, np.repeat(line_N[::length], length))
        if count > 1 and is_in_order and np.array_equal(others_N, np.tile(others_N[:length], (count, 1))):
            return count
    return 1


def check_batch_size(
    rows: int, mesh: jax.sharding.Mesh, where: str = "config.batch_size", *, accumulate: int = 1
) -> None:
    """Raises UserError unless the rows of every micro-batch divide over the axes of the batch."""
    parts = row_devices(mesh) * accumulate
    if rows > 0 and rows % parts == 0:
        return
    below = rows // parts * parts
    near = [str(n) for n in (below, below + parts) if n > 0]
    shown = [name for name in BATCH_AXES if name in ("data", "fsdp") or mesh.shape.get(name, 1) > 1]
    over = " x ".join(f"{name}={mesh.shape.get(name, 1)}" for name in shown)
    over += f" and config.accumulate={accumulate} micro-batches" if accumulate > 1 else ""
    raise UserError(
        f"{where}={rows}: rows are split over mesh axes {over}, so it must be a multiple "
        f"of {parts}. Nearest: {' or '.join(near)}; or move devices to mesh.tensor."
    )
