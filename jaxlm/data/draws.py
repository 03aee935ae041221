"""Random draws as pure functions. In: seed, purpose, index. Out: an independent numpy generator for exactly these.

Philox is counter-based: its key is (purpose, seed, index) itself, so the draws of row 10^12 cost what those of row 0
cost, and no order of reading, worker or host can change them.
"""

import functools
import hashlib

import numpy as np

from jaxlm.errors import UserError

SEEDS = 2**32


def generator(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """The generator of (seed, purpose, index); seed in [0, 2^32), index in [0, 2^64)."""
    # As an array: numpy reads a list with an int above 2^63 as float64, and the seed in the low bits is lost.
    key = np.array([_code(purpose) << 32 | check_seed(seed), index], np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def derived_seed(seed: int, purpose: str) -> int:
    """A seed in [0, 2^32) for a library that takes only one; far from the neighbours' (seed + 1 shares nothing)."""
    return int(generator(seed, purpose).integers(SEEDS))


def check_seed(seed: int) -> int:
    """`seed` if it is usable, else a UserError."""
    if not 0 <= seed < SEEDS:
        raise UserError(f"seed={seed} is out of range; allowed: 0 to {SEEDS - 1}. Choose another seed.")
    return int(seed)


@functools.cache
def _code(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "little")
