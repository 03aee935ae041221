"""How fast a run is. In: steps, useful tokens and waiting times. Out: rates between two readings.

Useful tokens are those that are not padding. MFU is model FLOPs / (time x devices x peak): model FLOPs are
those of the forward and the backward pass without what rematerialisation repeats, and the peak is the dense
bfloat16 rate of a JAX device. Guarantee: time spent compiling, evaluating and saving (`excluded`) is in no
rate.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp


@functools.cache
def matmul_rate(dtype: str) -> float:
    """FLOP/s of one device in a square matrix product, measured once: what a step can be estimated from."""
    size = 1024 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)


class Throughput:
    """Times a run between readings. `peak` is the FLOP/s of all its devices together, or None."""

    def __init__(
        self,
        *,
        flops_per_step: float,
        peak: float | None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._flops, self._peak, self._now = flops_per_step, peak, now
        self.restart()

    def restart(self) -> None:
        """Forgets the time since the last reading."""
        self._since, self._left_out, self._waited = self._now(), 0.0, 0.0

    def waited(self, seconds: float) -> None:
        """Adds time that the loop waited for data."""
        self._waited += seconds

    @contextlib.contextmanager
    def excluded(self) -> Iterator[None]:
        """The time inside (evaluating, saving) is not training time."""
        start = self._now()
        try:
            yield
        finally:
            self._left_out += self._now() - start

    def read(self, *, steps: int, useful_tokens: float) -> dict[str, float]:
        """The rates since the last reading, which these steps took; {} when no time went by."""
        seconds = self._now() - self._since - self._left_out
        waited = self._waited
        self.restart()
        if seconds <= 0 or steps <= 0:
            return {}
        rates = {
            "throughput/useful_tokens_per_second": useful_tokens / seconds,
            "throughput/steps_per_second": steps / seconds,
            "time/step_s": seconds / steps,
            "time/data_wait_s": waited / steps,
            "time/data_wait_share": min(waited / seconds, 1.0),
        }
        if self._peak:
            rates["throughput/mfu"] = self._flops * steps / (seconds * self._peak)
        return rates
