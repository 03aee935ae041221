"""Machines by name: the table of the cloud, described devices, and what is refused."""

import math

import pytest

from jaxlm.errors import UserError
from jaxlm.planning import targets


@pytest.mark.parametrize(
    ("name", "chips", "topology"),
    [
        ("v5e-1", 1, (1, 1)),
        ("v5e-8", 8, (2, 4)),
        ("v5e-256", 256, (16, 16)),
        ("v6e-64", 64, (8, 8)),
        ("v4-8", 4, (2, 2, 1)),
        ("v4-512", 256, (4, 8, 8)),
        ("v4-8192", 4096, (16, 16, 16)),
        ("v5p-8", 4, (2, 2, 1)),
        ("v5p-128", 64, (4, 4, 4)),
        ("v5p-384", 192, (4, 4, 12)),
        ("v5p-2048", 1024, (8, 8, 16)),
        ("v5p-12288", 6144, (16, 16, 24)),
    ],
)
def test_a_name_is_chips_in_the_shape_of_the_cloud(name, chips, topology):
    """Shapes as listed on cloud.google.com/tpu/docs; v4 and v5p count two cores a chip."""
    found = targets.parse(name)
    assert (found.size, found.topology, found.name) == (chips, topology, name)


@pytest.mark.parametrize("name", ["v4", "v5p", "v5e", "v6e"])
def test_every_size_that_is_allowed_is_a_box_of_so_many_chips(name):
    generation = targets.GENERATIONS[name]
    for chips, shape in generation.shapes().items():
        assert math.prod(shape) == chips
        assert all(side <= most for side, most in zip(sorted(shape), sorted(generation.largest), strict=True))


def test_several_slices_are_in_the_name_or_an_option_and_devices_know_theirs():
    found = targets.parse("2xv5p-16")
    assert found == targets.parse("v5p-16", slices=2) and found.size == 16
    devices = found.devices()
    assert [d.id for d in devices] == list(range(16))
    assert [d.slice_index for d in devices] == [0] * 8 + [1] * 8
    assert len({(d.slice_index, d.coords) for d in devices}) == 16
    with pytest.raises(UserError, match=r"has its slices in its name. Fix: leave out --slices=3"):
        targets.parse("2xv5p-16", slices=3)


def test_gpus_are_counted_in_hosts_of_eight():
    found = targets.parse("h100-24")
    assert found.topology == (3, 8) and {d.process_index for d in found.devices()} == {0, 1, 2}
    assert targets.parse("h100-4").topology == (1, 4)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "v5e-3",
            r"no v5e slice of that size \(it counts chips\). Allowed: 1, 4, 8, .*256. Nearest: v5e-1, v5e-4",
        ),
        ("v5p-7", r"counts cores, two in a chip\). Allowed: 8, 16, 32, .* Nearest: v5p-8, v5p-16"),
        ("v5p-9", r"no v5p slice of that size"),
        ("v5-8", r'Did you mean "v5p"\? Allowed: v4-8\.\.8192, v5e-1\.\.256'),
        ("pod", r"no machine that is known"),
        ("h100-12", r"a host has 8 GPUs. Allowed: 1 to 8, and multiples"),
        ("2xh100-8", r"GPUs have no slices. Fix: h100-16"),
    ],
)
def test_what_is_no_machine_is_refused_with_what_is_allowed(name, says):
    with pytest.raises(UserError, match=says):
        targets.parse(name)


def test_rings_are_where_the_torus_closes():
    assert targets.parse("v5e-256").wraps == (True, True)
    assert targets.parse("v5e-128").wraps == (False, True)
    assert targets.parse("v5p-64").wraps == (False, False, False)
    assert targets.parse("v5p-128").wraps == (True, True, True)
