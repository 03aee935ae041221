"""Claims: sizes are filled in and checked with errors that say the counts; several TPU slices lie along data."""

import os

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxlm.errors import UserError
from jaxlm.partition import mesh
from jaxlm.partition.mesh import Mesh


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (Mesh(), {"data": 8}),
        (Mesh(fsdp=4), {"data": 2, "fsdp": 4}),
        (Mesh(data=1, fsdp=-1, tensor=2), {"fsdp": 4, "tensor": 2}),
        (Mesh(data=2, fsdp=2, tensor=2), {"data": 2, "fsdp": 2, "tensor": 2}),
        (Mesh(data=1, expert=-1, tensor=2), {"expert": 4, "tensor": 2}),
    ],
)
def test_mesh_has_all_axes_and_uses_all_devices(config, sizes):
    made = mesh.make(config)
    assert dict(made.shape) == {name: sizes.get(name, 1) for name in mesh.AXES}
    assert set(made.axis_types) == {AxisType.Auto}
    assert sorted(d.id for d in made.devices.flat) == list(range(8))


def test_mesh_over_some_devices():
    assert mesh.make(Mesh(fsdp=3, data=1), jax.devices()[:3]).size == 3
    assert mesh.make(Mesh(), jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Mesh(fsdp=3), r"m: fsdp=3 \(3 together\) does not divide the 8 devices.*one of 1, 2, 4, 8"),
        (Mesh(data=2, tensor=2), r"m: data=2 x tensor=2 needs 4 devices, there are 8.*m\.data=-1"),
        (Mesh(data=4, tensor=4), r"needs 16 devices, there are 8"),
        (Mesh(data=1), r"all axes are 1 needs 1 devices"),
        (Mesh(fsdp=-1), r"data and fsdp are both -1"),
        (Mesh(tensor=0), r"m\.tensor=0: must be a whole number"),
        (Mesh(tensor=-2), r"m\.tensor=-2"),
        (Mesh(tensor=2.0), r"m\.tensor=2\.0"),
        (Mesh(expert=3), r"m: expert=3 \(3 together\) does not divide the 8 devices"),
    ],
)
def test_impossible_mesh_is_refused(config, message):
    with pytest.raises(UserError, match=message):
        mesh.make(config, where="m")


def test_batch_size_must_divide_over_the_axes_of_the_batch():
    experts = mesh.make(Mesh(data=1, fsdp=2, expert=4))
    with pytest.raises(
        UserError, match=r"batch_size=12: .*data=1 x fsdp=2 x expert=4, .*multiple of 8.*8 or 16"
    ):
        mesh.check_batch_size(12, experts)
    made = mesh.make(Mesh(data=1, fsdp=4, tensor=2))
    mesh.check_batch_size(12, made)
    with pytest.raises(UserError, match=r"config\.batch_size=14: .*data=1 x fsdp=4.*multiple of 4.*12 or 16"):
        mesh.check_batch_size(14, made)
    with pytest.raises(UserError, match=r"batch_size=3: .*Nearest: 4;"):
        mesh.check_batch_size(3, made)
    with pytest.raises(UserError, match=r"batch_size=0: "):
        mesh.check_batch_size(0, made)


@pytest.fixture
def topology():
    """TPU devices without a TPU; needs the extra `tpu`."""
    pytest.importorskip("libtpu")
    os.environ.update(
        TPU_SKIP_MDS_QUERY="1",
        TPU_ACCELERATOR_TYPE="v5litepod-4",
        TPU_WORKER_HOSTNAMES="localhost",
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",  # else a second test process is aborted by the library's lock file
        TPU_LOG_DIR="disabled",
    )
    from jax.experimental import topologies

    return lambda name, slices: list(
        topologies.get_topology_desc(platform="tpu", topology_name=name, num_slices=slices).devices
    )


@pytest.mark.tpu_compile
@pytest.mark.parametrize(
    ("name", "slices", "config"),
    [
        ("v5e:2x2", 1, Mesh()),
        ("v5e:16x16", 1, Mesh(fsdp=64, tensor=4)),
        ("v5e:4x4", 2, Mesh(fsdp=8, tensor=2)),
        ("v6e:4x4", 1, Mesh(data=1, fsdp=-1, tensor=2)),
        ("v5p:2x2x2", 4, Mesh(fsdp=-1, data=8)),
    ],
)
def test_slices_lie_along_data(topology, name, slices, config):
    devices = topology(name, slices)
    made = mesh.make(config, devices)
    assert made.size == len(devices)
    indices = np.vectorize(lambda d: getattr(d, "slice_index", 0) or 0)(made.devices)
    by_data = indices.reshape(made.shape["data"], -1)
    assert (by_data == by_data[:, :1]).all()
    assert len(np.unique(indices)) == slices


@pytest.mark.tpu_compile
def test_slices_that_data_cannot_span_are_refused(topology):
    with pytest.raises(UserError, match=r"m\.data=1: must be a multiple of the 2 TPU slices"):
        mesh.make(Mesh(data=1, fsdp=-1), topology("v5e:4x4", 2), where="m")
