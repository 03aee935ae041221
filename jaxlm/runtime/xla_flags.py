"""Options of the compiler that are made for training on several devices. In: their kind, the environment. Out: options.

They belong to one program (`jax.jit(compiler_options=...)`): no environment to set, no order to keep. Which kinds they
are advised for is known from MaxText's flags (TPU) and NVIDIA's containers (GPU); no speed of them was measured here.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

import jax

from jaxlm.errors import UserError

# Gradients are reduced beside the products that do not need them. What else is advised, for gathers above all, libtpu
# 0.0.42 does anyway: the program compiled for v5e, data parallel, is the same with it and without (2026-11-26).
# Since libtpu 0.0.46 every other TPU refuses the two together.
_V5E = ("xla_enable_async_all_reduce", "xla_tpu_enable_async_collective_fusion_fuse_all_reduce")
_GPU = ("xla_gpu_enable_latency_hiding_scheduler",)
# By the start of a device_kind.
OPTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("TPU v5 lite", _V5E),
    ("TPU v5e", _V5E),
    ("NVIDIA", _GPU),
)


def options(device_kind: str, devices: int, environment: Mapping[str, str] = os.environ) -> dict[str, bool]:
    """{option: True} for a step on so many devices; without those that XLA_FLAGS or LIBTPU_INIT_ARGS set."""
    if devices < 2:
        return {}
    given = " ".join(environment.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")).split()
    theirs = {word.lstrip("-").partition("=")[0] for word in given}
    found = next((names for start, names in OPTIONS if device_kind.startswith(start)), ())
    return {name: True for name in found if name not in theirs}


@contextlib.contextmanager
def known() -> Iterator[None]:
    """Around compiling: an option that this compiler does not have is a UserError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        raise UserError(
            f"{str(error).splitlines()[0]}: this version of the compiler is not one that jaxlm's options are made for. "
            "Fix: --config.compiler_options=none."
        ) from error
