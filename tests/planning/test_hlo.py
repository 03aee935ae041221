"""Compiled programs as text: loops multiplied, bytes as they are, on programs of the CPU's compiler and by hand."""

import jax
import jax.numpy as jnp
import pytest

from jaxlm.planning.hlo import Module, array_bytes

# As libtpu writes it: loops without a trip count, memory spaces, estimates; a kernel's text has braces of its own.
TPU = """HloModule jit_step, is_scheduled=true

%fused_computation (param_0: bf16[5,8,128], param_1: s32[]) -> bf16[8,128] {
  %param_0 = bf16[5,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %param_1 = s32[]{:T(128)} parameter(1)
  %constant.9 = s32[]{:T(128)} constant(0)
  %dynamic-slice.1 = bf16[1,8,128]{2,1,0:T(8,128)(2,1)} dynamic-slice(%param_0, %param_1, %constant.9, %constant.9)
  ROOT %bitcast.1 = bf16[8,128]{1,0:T(8,128)(2,1)} bitcast(%dynamic-slice.1)
}

%cond (arg: (s32[], bf16[5,8,128])) -> pred[] {
  %arg = (s32[]{:T(128)}, bf16[5,8,128]{2,1,0}) parameter(0)
  %get-tuple-element.1 = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %constant.1 = s32[]{:T(128)} constant(5)
  ROOT %compare.1 = pred[]{:T(512)} compare(%get-tuple-element.1, %constant.1), direction=LT
}

%body (arg.1: (s32[], bf16[5,8,128])) -> (s32[], bf16[5,8,128]) {
  %arg.1 = (s32[]{:T(128)}, bf16[5,8,128]{2,1,0}) parameter(0)
  %get-tuple-element.2 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  %get-tuple-element.3 = bf16[5,8,128]{2,1,0} get-tuple-element(%arg.1), index=1
  %fusion.1 = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%get-tuple-element.3, %get-tuple-element.2), kind=kLoop, calls=%fused_computation, backend_config={"estimated_cycles":"70"}
  %copy.1 = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} copy(%fusion.1), backend_config={"estimated_cycles":"30"}
  %kernel = bf16[8,128]{1,0} custom-call(%fusion.1), custom_call_target="tpu_custom_call", backend_config={"body": "
}
"}
  ROOT %tuple.1 = (s32[]{:T(128)}, bf16[5,8,128]{2,1,0}) tuple(%get-tuple-element.2, %get-tuple-element.3)
}

ENTRY %main (p: (s32[], bf16[5,8,128])) -> (s32[], bf16[5,8,128]) {
  %p = (s32[]{:T(128)}, bf16[5,8,128]{2,1,0}) parameter(0)
  ROOT %while.1 = (s32[]{:T(128)}, bf16[5,8,128]{2,1,0}) while(%p), condition=%cond, body=%body
}
"""
_SLICE = 8 * 128 * 2  # bytes


def test_cycles_and_bytes_of_a_loop_count_as_often_as_it_runs():
    """Of the fusion the slice is read, not the five that it is cut from; what is in VMEM costs the HBM nothing."""
    module = Module.parse(TPU)
    assert module.cycles() == 5 * (70 + 30)
    fusion, copy, kernel = 2 * _SLICE, _SLICE, 2 * _SLICE
    scalar = 4  # the counter, which the fusion reads
    assert module.hbm_bytes() == 5 * (fusion + scalar + copy + kernel)
    assert module.heaviest(1) == [("fusion.1", 5 * (fusion + scalar))]
    assert module.unknown == []


def test_a_loop_whose_rounds_are_not_told_counts_once_and_is_listed():
    module = Module.parse(TPU.replace("constant(5)", "parameter(1)"))
    assert module.cycles() == 100 and module.unknown == ["while.1"]


def test_a_scan_compiled_here_has_its_rounds_and_its_copy_its_bytes():
    x = jax.ShapeDtypeStruct((7, 64, 32), jnp.float32)
    body = lambda total, row: (jnp.sin(total) + row, jnp.cos(row) * total)
    text = jax.jit(lambda x: jax.lax.scan(body, jnp.zeros((64, 32)), x)).lower(x).compile().as_text()
    times = {executed.what.opcode: executed.times for executed in Module.parse(text).executed()}
    assert times["sine"] == times["cosine"] == 7
    assert times["while"] == 1


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("f32[3,5]{1,0}", 60),
        ("(bf16[4]{0:T(128)}, /*index=1*/pred[7]{0}, s32[])", 8 + 7 + 4),
        ("s4[6]{0}", 3),
        ("f8e4m3fn[10]{0}", 10),
        ("u64[2]{0}", 16),
        ("token[]", 0),
    ],
)
def test_bytes_of_a_type(kind, size):
    assert array_bytes(kind) == size


def test_what_is_no_program_is_an_error():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        Module.parse("HloModule nothing")
