"""Rates, with a clock that the test turns."""

import pytest

from jaxlm.monitor.hardware import peak_flops
from jaxlm.monitor.throughput import Throughput


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_leave_out_what_is_excluded():
    clock = Clock()
    throughput = Throughput(flops_per_step=6e12, peak=4e12, now=clock)
    clock.now += 10.0
    with throughput.excluded():
        clock.now += 1000.0
    throughput.waited(1.5)
    throughput.waited(0.5)
    clock.now += 10.0
    assert throughput.read(steps=5, useful_tokens=3000.0) == {
        "throughput/useful_tokens_per_second": 150.0,
        "throughput/steps_per_second": 0.25,
        "time/step_s": 4.0,
        "time/data_wait_s": 0.4,
        "time/data_wait_share": 0.1,
        "throughput/mfu": 6e12 * 5 / (20.0 * 4e12),
    }


def test_each_reading_starts_anew():
    clock = Clock()
    throughput = Throughput(flops_per_step=1.0, peak=None, now=clock)
    clock.now += 50.0
    throughput.read(steps=1, useful_tokens=1.0)
    clock.now += 2.0
    rates = throughput.read(steps=4, useful_tokens=8.0)
    assert rates["throughput/useful_tokens_per_second"] == 4.0
    assert "throughput/mfu" not in rates


def test_nothing_is_known_before_the_first_reading():
    throughput = Throughput(flops_per_step=1.0, peak=1.0, now=lambda: 5.0)
    assert throughput.read(steps=3, useful_tokens=9.0) == {}


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v2", 22.5e12),
        ("TPU v3", 61.5e12),
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("TPU7x", 1153.5e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("cpu", None),
        ("NVIDIA Something New", None),
    ],
)
def test_peak_by_device_kind(kind, peak):
    assert peak_flops(kind) == peak
