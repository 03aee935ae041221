"""Claims about the compiler's options: they hold for several devices of a known kind, and the user's own win."""

import jax
import jax.numpy as jnp
import pytest

from jaxlm.errors import UserError
from jaxlm.runtime import xla_flags


@pytest.mark.parametrize("kind", ["TPU v5 lite", "TPU v5e"])
def test_v5e_chips_that_share_work_overlap_communication(kind):
    found = xla_flags.options(kind, 4, {})
    assert found["xla_enable_async_all_reduce"] and len(found) == 2


@pytest.mark.parametrize("kind", ["TPU v4", "TPU v5", "TPU v5p", "TPU v6 lite"])
def test_other_tpus_refuse_what_v5e_takes(kind):
    assert xla_flags.options(kind, 4, {}) == {}


@pytest.mark.parametrize(("kind", "devices"), [("TPU v5 lite", 1), ("NVIDIA H100 80GB HBM3", 1), ("cpu", 8)])
def test_one_device_or_an_unknown_kind_has_none(kind, devices):
    assert xla_flags.options(kind, devices, {}) == {}


def test_what_the_user_set_is_left_alone():
    h100, flag = "NVIDIA H100 80GB HBM3", "xla_gpu_enable_latency_hiding_scheduler"
    assert xla_flags.options(h100, 8, {"XLA_FLAGS": "--xla_dump_to=x"}) == {flag: True}
    assert xla_flags.options(h100, 8, {"XLA_FLAGS": f"--xla_dump_to=x --{flag}=false"}) == {}
    given = {"LIBTPU_INIT_ARGS": "--xla_enable_async_all_reduce=false"}
    assert "xla_enable_async_all_reduce" not in xla_flags.options("TPU v5 lite", 4, given)


def test_the_compiler_knows_the_options_of_gpus():
    """XLA's own options have one table for all platforms; those of TPUs are compiled in tests/test_tpu_compile.py."""
    add = jax.jit(lambda x: x + 1.0, compiler_options=xla_flags.options("NVIDIA H100 80GB HBM3", 8, {}))
    assert add(jnp.zeros(3)).tolist() == [1.0] * 3


def test_an_option_that_the_compiler_does_not_have_is_a_message():
    step = jax.jit(lambda x: x, compiler_options={"xla_tpu_of_another_version": True}).lower(jnp.zeros(3))
    with (
        pytest.raises(UserError, match=r"xla_tpu_of_another_version.*Fix: --config\.compiler_options=none"),
        xla_flags.known(),
    ):
        step.compile()
