"""Claims about the tiles of splash attention: they are what is computed, those of least cost, and they compile."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlm.models import masks, splash, splash_tiles
from jaxlm.models.attention import xla_attention
from jaxlm.models.splash_tiles import COSTS, Cost, Seen
from jaxlm.planning import compiled

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SEES = [(None, 0), (None, None), (64, 64), (300, 0)]


@pytest.mark.parametrize(("before", "after"), SEES)
@pytest.mark.parametrize("devices", [1, 2])
def test_tiles_that_are_computed_are_those_in_which_a_query_sees_a_key(before, after, devices):
    places = splash.places(1024, devices) if devices > 1 else np.arange(1024)
    apart = np.arange(1024)[None] - places[:, None]  # of key and query
    sees = np.ones((1024, 1024), bool)
    sees &= True if after is None else apart <= after
    sees &= True if before is None else apart >= -before
    for q, kv in ((128, 128), (256, 128), (128, 512), (256, 1024)):
        expected = sees.reshape(1024 // q, q, 1024 // kv, kv).any(axis=(1, 3))
        np.testing.assert_array_equal(Seen(places, 1024, before, after).tiles(q, kv), expected)


def test_cycles_are_those_of_steps_tiles_and_lines():
    """2 x 2 tiles of 256, of which causal attention needs 3; by hand."""
    seen, cost = Seen(np.arange(512), 512, None, 0), Cost(1, 100, 10_000, 1e6, 1e8)
    tiles, lines = 3 * (100 + 4 * 10_000), 4 * 1e6
    assert splash_tiles.cycles("forward", cost, seen, 256, 256) == 4 + tiles + lines + 8e8
    narrow = Seen(
        np.arange(512), 512, 0, 0
    )  # the diagonal: the grid of all but the fused kernel shrinks to it
    assert splash_tiles.cycles("dkv", cost, narrow, 256, 256) == 2 + tiles * 2 / 3 + lines + 8e8
    assert splash_tiles.cycles("fused", cost, narrow, 256, 256) == 4 + tiles * 2 / 3 + lines + 8e8


@pytest.mark.parametrize("kind", [*COSTS, "TPU v4"])
@pytest.mark.parametrize(("before", "after"), SEES)
def test_no_other_allowed_tile_costs_less_and_every_length_has_one(kind, before, after):
    for length in (128, 256, 384, 640, 1024, 1536, 2176, 4096, 8192):
        seen = Seen(np.arange(length), length, before, after)
        found = splash_tiles.sizes(seen, length, 128, 2, kind)
        whole = [n for n in range(128, 1025, 128) if length % n == 0]
        costs = splash_tiles.costs(kind)
        of = lambda kernel, q, kv: splash_tiles.cycles(kernel, costs[kernel], seen, q, kv)  # noqa: B023
        every = [(q, kv) for q in whole for kv in whole]
        assert of("forward", found.block_q, found.block_kv) == min(of("forward", *tile) for tile in every)
        apart = sum(min(of(kernel, *tile) for tile in every) for kernel in ("dq", "dkv"))
        fused = [of("fused", q, kv) for q, kv in every if length // kv <= splash_tiles._PARTS]
        assert found.use_fused_bwd_kernel == (min(fused, default=np.inf) <= apart)
        if found.use_fused_bwd_kernel:
            assert of("fused", found.block_q_dkv, found.block_kv_dkv) == min(fused)
        for kv, compute in (
            (found.block_kv, found.block_kv_compute),
            (found.block_kv_dkv, found.block_kv_dkv_compute),
        ):
            assert kv % compute == 0 and (compute <= 640 or compute == kv)


def test_wide_vectors_take_smaller_tiles_and_a_narrow_window_narrow_ones():
    seen = Seen(np.arange(4096), 4096, None, None)
    of = lambda *arguments: splash_tiles.sizes(*arguments, "TPU v5 lite").block_kv
    assert of(seen, 4096, 128, 2) == of(seen, 4096, 64, 2) == 1024
    assert of(seen, 4096, 256, 2) == of(seen, 4096, 128, 4) == 512
    assert of(Seen(np.arange(8192), 8192, 64, 64), 8192, 64, 2) < 1024


@pytest.mark.parametrize("parts", [0, 4])
def test_one_kernel_for_the_backward_pass_equals_two_and_the_reference(parts, monkeypatch):
    """Over several tiles of queries and of keys, whose dq are summed."""
    monkeypatch.setattr(splash_tiles, "_PARTS", parts)
    monkeypatch.setattr(splash_tiles, "_LARGEST", 512)  # float32 takes half
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, weights = (
        jax.random.normal(key, (1, 512, heads, 16)) for key, heads in zip(keys, (4, 2, 2, 4), strict=True)
    )
    segments = jnp.asarray(np.repeat([[1, 2, 3]], [200, 70, 242], axis=1), jnp.int32)
    mask = masks.within_segments(segments, causal=True)
    sizes = splash_tiles.sizes(Seen(np.arange(512), 512, None, 0), 512, 16, 4, "cpu")
    assert sizes.use_fused_bwd_kernel == bool(parts) and sizes.block_kv_dkv == 256
    both = lambda call: jit(
        jax.value_and_grad(lambda q, k, v: (call(q, k, v, mask) * weights).sum(), argnums=(0, 1, 2))
    )(q, k, v)
    expected, found = both(xla_attention), both(functools.partial(splash.attention, interpret=True))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, float(np.abs(a).max()))


PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jaxlm.models import masks, splash
from jaxlm.planning import compiled
from jaxlm.planning.targets import parse

target, cases = json.loads(sys.argv[1])
mesh = jax.sharding.Mesh(np.array(compiled.devices(parse(target)))[:1].reshape(1), ("data",))
here = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
for length, width, dtype, causal, window in cases:
    def both(x, segments):
        mask = masks.within_segments(segments, causal=causal, window=window)
        out, back = jax.vjp(lambda x: splash.attention(x, x, x, mask), x)
        return back(out)
    x = jax.ShapeDtypeStruct((2, length, 2, width), dtype, sharding=here)
    segments = jax.ShapeDtypeStruct((2, length), jnp.int32, sharding=here)
    with jax.set_mesh(mesh):
        jax.jit(both).lower(x, segments).compile()
    print("compiled", length, width, dtype, causal, window, flush=True)
"""
LENGTHS = (384, 640, 768, 896, 1024, 1152, 4096, 8192, 32768)


@pytest.mark.tpu_compile
@pytest.mark.timeout(900)
@pytest.mark.skipif(not compiled.available(), reason='needs libtpu: pip install "jaxlm[tpu]"')
@pytest.mark.parametrize("target", ["v4-8", "v5e-1", "v5p-8", "v6e-1"])
def test_every_choice_fits_the_memory_of_a_core(target):
    cases = [(length, 128, "bfloat16", length % 256 == 0, None) for length in LENGTHS]
    cases += [(2048, 64, "bfloat16", False, None), (8192, 64, "bfloat16", False, (64, 64))]
    cases += [(2048, 256, "bfloat16", True, None), (2048, 128, "float32", True, None)]
    cases += [(8192, 256, "float32", True, None), (1792, 128, "bfloat16", False, None)]
    command = [sys.executable, "-c", PROGRAM, json.dumps([target, cases])]
    done = subprocess.run(
        command, env={**os.environ, **compiled.LIBTPU}, capture_output=True, text=True, timeout=880
    )
    assert done.stdout.count("compiled") == len(cases), done.stdout + done.stderr[-1500:]
