"""A model that answers: weights on a mesh, rows of ids through one compiled program. Out: its results, by row.

A program gets the model as an argument, weights and all (a bound module is a pytree), never as a constant: it is then
small, compiled once for all weights, and found again by the next call. Batches hold rows of similar length and have few
shapes; what stands beside a row in its batch does not change its result, nor does the mesh, to rounding.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.models import several, stack
from jaxlm.models.apart import apart as layers_apart
from jaxlm.models.build import Model
from jaxlm.models.turned import turned
from jaxlm.partition import mesh as meshes
from jaxlm.partition import state as partition

# Lengths that rows, prompts and rooms are padded to: these, then multiples of the last.
_SIZES = (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)

# Of a batch, padding included. In larger ones every layer goes through memory: 1,024 tokens of MiniLM in 8 bits, in
# texts of 256, take 0.6 of the time of as many of 8,192; and texts of small batches are more alike in length.
_TOKENS_ON_CPU = 1024

Ask = Callable[[np.ndarray], Any]  # tokens_BT -> targets of the batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictor:
    """A model with its weights, both in one dtype and on one mesh, and what makes ids of a text."""

    model: Model
    params: Any
    mesh: jax.sharding.Mesh
    tokenizer: Tokenizer
    row_length: int  # the longest row it takes, or was trained on
    which: tuple[int, ...] = ()  # of every row, the number of its adapter; (): there are none

    @functools.cached_property
    def module(self) -> Any:
        """The model over its weights: what programs take as their first argument."""
        return self.model.bind(self._turned)

    @functools.cached_property
    def _turned(self) -> Any:
        return turned(self.params, self.model.axes) if self._on_cpu and not self.which else self.params

    @property
    def _on_cpu(self) -> bool:
        return self.mesh.devices.flat[0].platform == "cpu"

    @functools.cached_property
    def by_layer(self) -> Self:
        """The same with an array for each layer, where layers are unrolled on a CPU: no program copies them then. It
        holds the weights a second time; the first are free if nobody else holds them."""
        config = self.model.config
        if getattr(self, "adapters", None) or not self._on_cpu:
            return self
        with jax.set_mesh(self.mesh):
            unrolled = lambda layers: stack.resolved(config.layer_loop, layers) == "unrolled"
            params = layers_apart(self._turned, self.model.axes, unrolled)
        return dataclasses.replace(self, params=params)

    def params_of(self, rows: Sequence[int], height: int) -> Any:
        """The weights for a batch of these rows, and empty ones up to its height."""
        if not self.which:
            return self.params
        which = np.zeros(height, np.int32)
        which[: len(rows)] = [self.which[row] for row in rows]
        return several.chosen(self.params, which)

    def height(self, rows: int) -> int:
        """The rows of a batch with so many, and empty ones behind them, that its devices share evenly."""
        parts = meshes.row_devices(self.mesh)
        return -(-rows // parts) * parts

    def split(self, arrays: Any) -> Any:
        """Arrays with a batch's rows first, each row on the devices that compute it."""
        return jax.device_put(arrays, partition.batch_sharding(self.mesh))

    def by_row(
        self,
        program: Callable[[Any, Batch], Any],
        rows: Sequence[Sequence[int]],
        *,
        targets: Ask = lambda tokens_BT: None,
        batch_size: int = 32,
    ) -> list[Any]:
        """What `program(module, batch)` returns for every row, as numpy, in the order of the rows."""
        parts = self._parts(list(map(len, rows)), batch_size)
        with jax.set_mesh(self.mesh):
            # All are under way before the first result is waited for.
            results = [self._asked(program, rows, part, batch_size, targets) for part in parts]
        found: dict[int, Any] = {}
        for part, result in zip(parts, jax.device_get(results), strict=True):
            found |= {k: jax.tree.map(lambda a, i=i: a[i], result) for i, k in enumerate(part)}
        return [found[k] for k in range(len(rows))]

    def _parts(self, lengths: Sequence[int], batch_size: int) -> list[list[int]]:
        """The rows of every batch, by their numbers: the longest first."""
        order, parts = sorted(range(len(lengths)), key=lengths.__getitem__), []
        while order:
            together = self._rows(self._width(lengths[order[-1]]), batch_size)
            parts.append(order[-together:])
            del order[-together:]
        return parts

    def _width(self, length: int) -> int:
        return min(size(length), self.row_length)

    def _rows(self, width: int, batch_size: int) -> int:
        """Of a full batch."""
        return min(batch_size, max(1, _TOKENS_ON_CPU // width)) if self._on_cpu else batch_size

    def _asked(self, program: Any, rows: Any, part: Sequence[int], batch_size: int, targets: Ask) -> Any:
        """Of the rows of these numbers."""
        batch = self._batch([rows[k] for k in part], batch_size, targets)
        if not self.which:
            return program(self.module, batch)
        return program(self.model.bind(self.params_of(part, len(batch.tokens_BT))), batch)

    def _batch(self, rows: list[Sequence[int]], batch_size: int, targets: Ask) -> Batch:
        """One text a row; empty rows behind them, up to a power of two."""
        width = self._width(max(map(len, rows)))
        height = self.height(min(1 << (len(rows) - 1).bit_length(), self._rows(width, batch_size)))
        tokens_BT = np.full((height, width), self.tokenizer.vocabulary.pad, np.int32)
        segments_BT = np.zeros((height, width), np.int32)
        for row, ids in enumerate(rows):
            tokens_BT[row, : len(ids)], segments_BT[row, : len(ids)] = ids, 1
        return self.split(
            Batch(
                tokens_BT=tokens_BT,
                segments_BT=segments_BT,
                positions_BT=np.arange(width, dtype=np.int32)[None] * segments_BT,
                types_BT=np.zeros_like(tokens_BT),
                targets=targets(tokens_BT),
            )
        )


def size(length: int) -> int:
    """The next larger length that programs are compiled for."""
    return next((size for size in _SIZES if length <= size), -(-length // _SIZES[-1]) * _SIZES[-1])
