"""How many directions each matrix keeps within a budget. In: what its directions carry. Out: ranks."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Of a matrix, or of a stack of them, which has one rank for all."""

    inputs: int
    outputs: int
    carried_K: np.ndarray  # by each direction, largest first; 1 in sum for each of the stack
    copies: int  # in the stack

    @property
    def limit(self) -> int:
        """The highest rank whose two factors are smaller than the matrix."""
        return (self.inputs * self.outputs - 1) // (self.inputs + self.outputs)

    @property
    def size(self) -> int:
        """Weights of the matrix itself."""
        return self.copies * self.inputs * self.outputs

    def weights(self, rank: int) -> int:
        """Of two factors of so high a rank; above the limit of the matrix itself."""
        return self.size if rank > self.limit else self.copies * rank * (self.inputs + self.outputs)

    def lost(self, rank: int) -> float:
        """Part of what the matrix carries that so high a rank leaves out: mean of the stack."""
        return 0.0 if rank > self.limit else float(self.carried_K[rank:].sum() / self.copies)

    def step(self, rank: int) -> tuple[int, float]:
        """(weights, what is gained) of the next direction; of the one above the limit of all that are left."""
        last = rank == self.limit
        gained = self.carried_K[rank:].sum() if last else self.carried_K[rank]
        return self.weights(rank + 1) - self.weights(rank), float(gained)


def least(spectra: Mapping[str, Spectrum]) -> int:
    """Weights that a single direction of each takes."""
    return sum(one.weights(1) for one in spectra.values())


def ranks(spectra: Mapping[str, Spectrum], budget: int) -> dict[str, int]:
    """{path: rank} for no more than so many weights: the direction that carries most for its weights first.

    Every matrix gets one; a rank above its `limit` means that it stays as it is.
    """
    found = dict.fromkeys(spectra, 1)
    left = budget - least(spectra)
    while True:
        steps = {path: one.step(found[path]) for path, one in spectra.items() if found[path] <= one.limit}
        worth = {path: gained / cost for path, (cost, gained) in steps.items() if cost <= left}
        if not worth:
            return found
        best = max(worth, key=worth.__getitem__)
        found[best] += 1
        left -= steps[best][0]
