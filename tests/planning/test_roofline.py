"""The roofline against numbers worked out by hand."""

import pytest

from jaxlm.models.pipeline import Schedule
from jaxlm.partition import mesh as meshes
from jaxlm.partition.mesh import Mesh
from jaxlm.planning import roofline, targets
from jaxlm.planning.collectives import Collective


def machine(name, **axes):
    target = targets.parse(name)
    return target, meshes.make(Mesh(**axes), target.devices())


def test_the_slowest_of_compute_memory_and_network_is_the_step():
    """v5e: 197 TFLOP/s, 819 GB/s, links of 50 GB/s one way; 16 devices along a ring send both ways."""
    target, mesh = machine("v5e-256", data=16, fsdp=16)
    gathered = Collective("all-gather", ("fsdp",), 16, 3, 32 * 10**9)
    found = roofline.times(
        target, mesh, flops=98.5e12, hbm_bytes=409.5e9, collectives=[gathered], efficiency=0.5
    )
    assert found.compute == pytest.approx(1.0) and found.memory == pytest.approx(0.5)
    assert found.network == {"fsdp": pytest.approx(30e9 / 100e9)}
    assert found.step == found.compute and found.bound == "compute"
    assert roofline.mfu(target, 98.5e12, found.step) == pytest.approx(0.5)


def test_axes_share_the_links_and_both_directions_of_the_torus_count():
    """All 256 devices lie along both rings, four links; an all-reduce carries its bytes twice."""
    target, mesh = machine("v5e-256", data=256)
    one = Collective("all-reduce", ("data",), 256, 1, 256 * 10**8)
    found = roofline.times(target, mesh, flops=0, hbm_bytes=0, collectives=[one, one])
    assert found.bounds["network"] == pytest.approx(2 * (2 * 255 * 1e8) / 200e9) and found.bound == "network"


def test_a_line_has_one_link_and_slices_talk_through_the_data_centre():
    """v5e-4 is 2 x 2: a line of two each way. Two of them: a device sends its quarter outside, at 3.125 GB/s."""
    target, mesh = machine("v5e-4", data=2, fsdp=2)
    one = Collective("all-gather", ("fsdp",), 2, 1, 10**9)
    assert roofline.times(target, mesh, flops=0, hbm_bytes=0, collectives=[one]).step == pytest.approx(0.01)
    target, mesh = machine("2xv5e-4", data=2, fsdp=4)
    one = Collective("all-reduce", ("data",), 2, 1, 10**9)
    found = roofline.times(target, mesh, flops=0, hbm_bytes=0, collectives=[one])
    assert found.step == pytest.approx(1e9 / 3.125e9)
    both = Collective("all-reduce", ("data", "fsdp"), 8, 1, 10**9)
    found = roofline.times(target, mesh, flops=0, hbm_bytes=0, collectives=[both])
    inside, outside = 2 * 0.75 * 1e9 / (2 * 50e9), 2 * 0.5 * 1e9 / 4 / 3.125e9
    assert found.step == pytest.approx(inside + outside)


def test_hosts_of_gpus_talk_through_the_network():
    target, mesh = machine("h100-16", data=2, fsdp=8)
    over = lambda *axes: Collective("all-gather", axes, 8 if axes == ("fsdp",) else 2, 1, 8 * 10**9)
    within = roofline.times(target, mesh, flops=0, hbm_bytes=0, collectives=[over("fsdp")]).step
    between = roofline.times(target, mesh, flops=0, hbm_bytes=0, collectives=[over("data")]).step
    assert within == pytest.approx(7e9 / 450e9) and between == pytest.approx(4e9 / 50e9)


def test_what_a_step_needs_at_least_is_counted_from_its_mesh():
    mesh = {"data": 2, "fsdp": 4, "tensor": 2}
    found = roofline.expected(
        mesh, weights=100, width=2, stream=64, layers=3, accumulate=5, whole_weights=False, repeats=True
    )
    assert found == [
        Collective("all-gather", ("fsdp",), 4, 10, 10 * 100),  # 50 numbers on a device, forward and backward
        Collective("all-reduce", ("fsdp",), 4, 5, 5 * 100),
        Collective("all-reduce", ("data",), 2, 1, 50),
        Collective("all-reduce", ("tensor",), 2, 90, 90 * 64),
    ]


def test_stages_wait_send_streams_and_trade_weights_that_go_round():
    """4 stages, 2 parts for each, twice round: 16 steps of work in 19. Of 100 weights a stage of 4, over fsdp 2, holds
    12.5, of which it trades 3/4, and as much of the gradient."""
    mesh, schedule = {"data": 1, "fsdp": 2, "tensor": 1, "stage": 4}, Schedule.of(2, 4, 2)
    how = dict(weights=100, width=2, stream=64, layers=8, accumulate=3, whole_weights=True, repeats=False)
    streams, traded, *_ = roofline.expected(mesh, **how, schedule=schedule)
    assert (streams.axes, streams.bytes) == (("stage",), 3 * 4 * 19 * 64 / 2)
    assert (traded.axes, traded.bytes) == (("stage",), 3 * 2 * 4 * 12.5 * 3 / 4)
    once = roofline.expected(mesh, **how, schedule=Schedule.of(2, 4))
    assert [one.bytes for one in once if one.axes == ("stage",)] == [3 * 4 * 11 * 64 / 2]
    target, made = machine("v5e-8", data=1, fsdp=2, stage=4)
    timed = roofline.times(target, made, flops=1e12, hbm_bytes=0, collectives=[], idle=schedule.bubble)
    assert timed.compute == pytest.approx(1e12 * 19 / 16 / (target.chip.peak * roofline.EFFICIENCY))
