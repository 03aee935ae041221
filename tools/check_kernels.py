"""Compares the attention kernels of this machine's accelerator with the reference, forward and backward.

    python tools/check_kernels.py

Packed rows of bfloat16, causal or not, with and without shared key heads, or with a bias. A kernel may be twice as far
from the result in float32 as the reference in bfloat16 is. Prints one line per comparison; the exit code is 1 if one
fails, 78 where there is no accelerator.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm import entry
from jaxlm.errors import UserError
from jaxlm.models import attention, biased, kernels, masks, packed, splash

# Lengths of a row's segments; what is negative is padding.
ROWS = ([200, 30, 250, 1, -31], [256, 256], [512], [100, -412], [-512])
MOST = max(map(len, ROWS))

Kernel = Callable[..., jax.Array]
KERNELS: dict[str, dict[str, Kernel]] = {
    "tpu": {"splash": splash.attention, "biased": biased.attention},
    "gpu": {"cudnn packed": attention.packed_attention, "cudnn": attention.cudnn_attention},
}


def compare(kernel: Kernel, *, causal: bool, kv_heads: int) -> Iterator[tuple[str, float, float]]:
    """(array, how far it is from float32, how far it may be) for the output and the gradients."""
    numbers = [np.where(np.array(row) > 0, np.arange(1, len(row) + 1), 0) for row in ROWS]
    segments = np.stack([np.repeat(n, np.abs(row)) for n, row in zip(numbers, ROWS, strict=True)])
    mask = masks.within_segments(jnp.asarray(segments, jnp.int32), causal=causal, most_segments=MOST)
    rng = np.random.default_rng(0)
    draw = lambda heads: rng.normal(size=(*segments.shape, heads, 64)).astype(np.float32)
    arrays = [jnp.asarray(x, jnp.bfloat16) for x in (draw(12) / 8, draw(kv_heads), draw(kv_heads))]
    weights, length = jnp.asarray(draw(12)), segments.shape[1]
    bias = [jnp.asarray(rng.normal(size=(12, length, length)), jnp.float32)] * (kernel is biased.attention)

    def all_of(call: Kernel, *arrays: jax.Array) -> list[np.ndarray]:
        run = lambda q, k, v, *bias: call(q, k, v, mask, *bias)
        loss = lambda *arrays: (run(*arrays).astype(jnp.float32) * weights).sum()
        gradients = jax.jit(jax.grad(loss, tuple(range(3 + len(bias)))))
        found = (jax.jit(run)(*arrays, *bias), *gradients(*arrays, *bias))
        return [np.asarray(x, np.float32) for x in found]

    with jax.default_matmul_precision("highest"):
        exact = all_of(attention.xla_attention, *(x.astype(jnp.float32) for x in arrays))
    rounded, found = all_of(attention.xla_attention, *arrays), all_of(kernel, *arrays)
    names = ("output", "dq", "dk", "dv", "dbias")[: len(found)]
    for name, e, r, f in zip(names, exact, rounded, found, strict=True):
        yield name, float(np.abs(f - e).max()), 2 * float(np.abs(r - e).max())


def main(argv: Sequence[str]) -> int:
    """Compares all and prints."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(list(argv[1:]))
    platform = kernels.platform()
    if platform not in KERNELS:
        raise UserError(
            f"jax runs on {platform!r}, which has no kernels. Start it on a machine with a GPU or TPU."
        )
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    failed = False
    for (name, kernel), causal, kv_heads in itertools.product(
        KERNELS[platform].items(), (False, True), (12, 4)
    ):
        if kernel is attention.packed_attention and packed.missing():
            print(f"{name}: not compared, {packed.missing()}")
            continue
        if kernel is biased.attention and kv_heads < 12:
            continue
        for array, apart, allowed in compare(kernel, causal=causal, kv_heads=kv_heads):
            fine = apart <= allowed  # false for NaN
            failed |= not fine
            case = f"{name}, {'causal' if causal else 'full'}, {kv_heads} of 12 key heads, {array}"
            print(f"{case}: {apart:.2e}, allowed {allowed:.2e}  {'equal' if fine else 'NOT EQUAL'}")
    return int(failed)


if __name__ == "__main__":
    entry.run(main)
