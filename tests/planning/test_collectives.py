"""Collectives of programs that the CPU's compiler made for 8 virtual devices, and XLA's ways to write groups."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxlm.planning import collectives
from jaxlm.planning.collectives import Collective, parse_groups
from jaxlm.planning.hlo import Module

SIZES = {"data": 2, "fsdp": 4}


def compiled(function, shape, spec, out):
    mesh = jax.make_mesh(tuple(SIZES.values()), tuple(SIZES), axis_types=(AxisType.Auto,) * 2)
    x = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=out, check_vma=False)
    return Module.parse(jax.jit(mapped).lower(x).compile().as_text())


P = PartitionSpec


@pytest.mark.parametrize(
    ("function", "out", "expected"),
    [
        # Each device has 3 x 10 numbers of 12 x 20.
        (lambda x: jax.lax.psum(x, "data"), P("fsdp", "data"), ("all-reduce", ("data",), 2, 1, 3 * 10 * 4)),
        (lambda x: jax.lax.psum(x, "fsdp"), P("fsdp", "data"), ("all-reduce", ("fsdp",), 4, 1, 3 * 10 * 4)),
        (
            lambda x: jax.lax.psum(x, ("data", "fsdp")),
            P(),
            ("all-reduce", ("data", "fsdp"), 8, 1, 3 * 10 * 4),
        ),
        (
            lambda x: jax.lax.all_gather(x, "fsdp", tiled=True),
            P(None, "data"),
            ("all-gather", ("fsdp",), 4, 1, 12 * 10 * 4),
        ),
        (
            lambda x: jax.lax.psum_scatter(x.T, "data", tiled=True),
            P("fsdp", "data"),
            ("reduce-scatter", ("data",), 2, 1, 10 * 3 * 4),
        ),
        (
            lambda x: jax.lax.ppermute(x, "fsdp", [(0, 1), (1, 2), (2, 3), (3, 0)]),
            P("fsdp", "data"),
            ("collective-permute", ("fsdp",), 2, 1, 3 * 10 * 4),
        ),
    ],
    ids=lambda value: value[0] + "-" + "+".join(value[1]) if isinstance(value, tuple) else "",
)
def test_kind_axis_count_and_bytes(function, out, expected):
    module = compiled(function, (12, 20), P("fsdp", "data"), out)
    assert collectives.of(module, SIZES) == [Collective(*expected)]


def test_what_is_in_a_loop_counts_as_often_as_it_runs():
    def summed(x):
        each = lambda total, row: (total + jax.lax.psum(row * total, "fsdp"), None)
        return jax.lax.scan(each, jnp.ones(x.shape[1]), x)[0]

    module = compiled(summed, (9, 40), P(None, "fsdp"), P("fsdp"))
    assert collectives.of(module, SIZES) == [Collective("all-reduce", ("fsdp",), 4, 9, 9 * 10 * 4)]


def test_the_partitioner_sums_a_gradient_once_over_data():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    x, w = (jax.ShapeDtypeStruct(s, jnp.float32, sharding=h) for s, h in (((16, 6), rows), ((6, 10), whole)))
    gradient = jax.jit(jax.grad(lambda w, x: jnp.sin(x @ w).sum()), out_shardings=whole)
    (found,) = collectives.of(Module.parse(gradient.lower(w, x).compile().as_text()), {"data": 8})
    assert (found.kind, found.axes, found.bytes) == ("all-reduce", ("data",), 6 * 10 * 4)


def test_bytes_on_the_wire_are_those_of_rings():
    wire = lambda kind, devices: Collective(kind, ("data",), devices, 1, 1000).wire_bytes
    assert wire("all-reduce", 4) == 1500 and wire("all-gather", 4) == 750
    assert wire("reduce-scatter", 5) == 800 and wire("collective-permute", 2) == 1000


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,2},{1,3}}", [[0, 2], [1, 3]]),
        ("replica_groups={}", [[0, 1, 2, 3]]),
        ("replica_groups=[2,2]<=[4], dimensions={0}", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}, x", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=4] {'a':(2)2}, x", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=4] {'a':(1)2}, x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2, device_ids=([0,2,1,3])] {'b'}, x", [[0, 2], [1, 3]]),
    ],
)
def test_groups_in_all_forms(text, groups):
    assert np.array_equal(np.sort(parse_groups(text, 4), axis=1), groups)


def test_the_iota_form_is_numpys_transpose():
    found = parse_groups("replica_groups=[6,4]<=[2,3,4]T(1,2,0)", 24)
    assert np.array_equal(found, np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0).reshape(6, 4))


def test_a_group_that_cannot_be_read_is_not_lost():
    text = compiled(partial(jax.lax.psum, axis_name="data"), (12, 20), P("fsdp", "data"), P("fsdp", "data"))
    for computation in text.computations.values():
        for name, one in computation.items():
            if one.opcode == "all-reduce":
                rest = one.rest.replace("replica_groups=", "replica_groups=unheard_of ")
                computation[name] = type(one)(one.name, one.type, one.opcode, one.operands, rest, one.root)
    (found,) = collectives.of(text, SIZES)
    assert found.axes == (collectives.UNKNOWN,) and found.bytes == 3 * 10 * 4
