"""The table before the first step."""

import dataclasses

import pytest

from jaxlm.errors import UserError
from jaxlm.monitor.preflight import Preflight, check_fits, gib, table

FACTS = Preflight(
    devices="8 x TPU v4, mesh data 8",
    precision="bfloat16 compute, float32 weights",
    attention="splash (TPU, rows of 512)",
    parameters=109_514_298,
    steps=2000,
    tokens_per_step=131072,
    packing_efficiency=0.9871,
    rows_per_epoch=12800,
    rows_per_step=256,
    flops_per_step=8.5e13,
    peak_flops=2.2e15,
    memory_per_device=9.5 * 2**30,
    memory_capacity=32 * 2**30,
    checkpoint_bytes=1.25 * 2**30,
    checkpoints_kept=4,
    disk_free=700 * 2**30,
    seconds_per_step=0.5,
    done=800,
    notes=("warm start from x",),
)


def test_table_holds_every_fact_in_aligned_columns():
    assert table(FACTS).splitlines() == [
        "  devices            8 x TPU v4, mesh data 8",
        "  precision          bfloat16 compute, float32 weights",
        "  attention          splash (TPU, rows of 512)",
        "  parameters         110M",
        "  tokens per step    131k, 98.7% of it useful (packing)",
        "  training           2000 steps, 262M tokens, 40 epochs of 12800 rows (6.55M tokens); 800 steps of them are done",
        "  FLOPs per step     85T (at best 0.0386 s per step: peak 2.2PFLOP/s)",
        "  memory per device  9.5 GiB estimated, 30% of 32.0 GiB",
        "  checkpoint         1.2 GiB, up to 4 of them; 700.0 GiB free",
        "  time left          about 10m00s, 0.5 s per step at half the measured matmul rate",
        "  note               warm start from x",
    ]


def test_unknown_facts_are_left_out():
    facts = Preflight(
        devices="1 x cpu", precision="float32", attention="xla", parameters=12, steps=3, tokens_per_step=100
    )
    names = [line.split("  ")[1].strip() for line in table(facts).splitlines()]
    assert names == ["devices", "precision", "attention", "parameters", "tokens per step", "training"]


def test_what_does_not_fit_is_marked():
    text = table(dataclasses.replace(FACTS, memory_per_device=40 * 2**30))
    assert "125% of 32.0 GiB  DOES NOT FIT" in text


def test_only_what_no_device_can_hold_is_refused():
    fits = dataclasses.replace(FACTS, memory_limit=FACTS.memory_per_device)
    unknown = dataclasses.replace(FACTS, memory_per_device=1e30)
    swapped = dataclasses.replace(FACTS, memory_per_device=40 * 2**30, memory_limit=48 * 2**30)
    for facts in (FACTS, fits, unknown, swapped):
        check_fits(facts)
    too_much = dataclasses.replace(FACTS, memory_per_device=50 * 2**30, memory_limit=48 * 2**30)
    ten_times = dataclasses.replace(too_much, memory_per_device=480 * 2**30)
    for rows, advice in (
        (24, "accumulate=12 or more"),
        (10, "accumulate=10 or more"),
        (8, "same results: --config.model"),
    ):
        with pytest.raises(UserError, match=advice):
            check_fits(dataclasses.replace(ten_times, rows_per_step=rows))
    with pytest.raises(
        UserError, match=r"131k tokens needs 50\.0 GiB .* there are 48\.0 GiB\. Fix, .*accumulate=2"
    ):
        check_fits(too_much)


def test_sizes():
    assert gib(3 * 2**30) == "3.0 GiB" and gib(5.5 * 2**20) == "5.5 MiB"
