"""What goes into a model's matrices on text of a user. In: a model, text. Out: sums over its activations.

All layers are measured in one pass: a weight is replaced by one whose gradient to an array beside it is the sum that is
wanted, so that scans, meshes and rematerialisation treat these sums as they treat gradients. Guaranteed: rows are filled
with text, so that no padding counts; what a matrix gets is what the whole model, as it is then, makes of that text.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.data.corpus import lines
from jaxlm.errors import UserError
from jaxlm.infer.loaded import Loaded
from jaxlm.models.build import Model
from jaxlm.models.dense import dense
from jaxlm.models.paths import flatten, nest
from jaxlm.models.values import AsArray, whole

_AT_ONCE = 4096  # tokens of a batch


@dataclasses.dataclass(kw_only=True)
class Text:
    """Text that activations are measured on: of the kind that the model will read."""

    file: str  # of text, UTF-8, .gz and .zst too; empty: it has to be named (--text=FILE)
    rows: int  # customary: 128 of 2,048 tokens
    length: int  # tokens of a row; no more than the model reads

    def validate(self, where: str) -> None:
        """UserError for numbers that cannot be."""
        for name in ("rows", "length"):
            if not 0 < getattr(self, name) < 2**20:
                raise UserError(f"{where}.{name}={getattr(self, name)}: must be above 0 (customary: 128 of 2,048).")

    def read(self, model: Loaded) -> "Calibration":
        """Rows of the text from its beginning. UserError when there is too little of it."""
        if not self.file:
            raise UserError(
                "This recipe measures activations, and no text is named. Fix: --text=FILE, of the kind that the model "
                "will read."
            )
        if model.model.config.kind not in ("encoder", "decoder"):
            raise UserError(
                f"{type(model.model.config).__name__} is of the kind {model.model.config.kind}; activations are measured "
                "of encoders and decoders. Fix: a recipe that needs no text, such as compress_int8."
            )
        length = min(self.length, model.row_length)
        marks = model.tokenizer.vocabulary.marks if model.model.config.kind == "encoder" else ((), ())
        ids: list[int] = []
        inside, wanted = length - len(marks[0]) - len(marks[1]), self.rows
        for line in _lines(self.file):
            ids += model.tokenizer.encode_batch([line])[0].tolist()
            if len(ids) >= inside * wanted:
                break
        rows = [[*marks[0], *ids[at : at + inside], *marks[1]] for at in range(0, len(ids) - inside + 1, inside)][:wanted]
        if len(rows) < wanted:
            raise UserError(
                f"{self.file} has {len(ids):,} tokens, and {wanted} rows of {length} are {inside * wanted:,}. Fix: more "
                f"text, or --config.calibration.rows={len(rows)}."
                if rows
                else f"{self.file} has {len(ids):,} tokens, less than one row of {length}. Fix: more text, or a smaller "
                "--config.calibration.length."
            )
        return Calibration(np.array(rows, np.int32))


def _lines(file: str) -> Iterator[str]:
    return (line for _, line in lines.numbered(file) if line.strip())


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a matrix gets, I numbers for every token; 'layers' in front where it is stacked. float32."""

    square_II: jax.Array  # sum of x x^T
    largest_I: jax.Array  # of |x|
    total_I: jax.Array  # sum of |x|


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Rows of text, all of one length."""

    tokens_RT: np.ndarray

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return self.tokens_RT.size

    def batches(self) -> Iterator[Batch]:
        """The rows, few at a time."""
        at_once = max(1, _AT_ONCE // self.tokens_RT.shape[1])
        for at in range(0, len(self.tokens_RT), at_once):
            tokens_BT = self.tokens_RT[at : at + at_once]
            ones = np.ones_like(tokens_BT)
            positions_BT = np.broadcast_to(np.arange(tokens_BT.shape[1], dtype=np.int32), tokens_BT.shape)
            yield Batch(
                tokens_BT=tokens_BT, segments_BT=ones, positions_BT=positions_BT, types_BT=np.zeros_like(tokens_BT)
            )

    def inputs(self, model: Loaded, paths: Sequence[str]) -> dict[str, Inputs]:
        """Of the matrices at these paths (of the body; 0 for those that it does not pass)."""
        found: dict[str, Any] | None = None
        with jax.set_mesh(model.mesh):
            for batch in self.batches():
                seen = _measured(model.model, tuple(paths), model.params, batch)
                found = seen if found is None else jax.tree.map(_joined, found, seen, _IS_LARGEST(seen))
        assert found is not None
        return {path: Inputs(**sums) for path, sums in found.items()}


def _joined(one: jax.Array, other: jax.Array, largest: bool) -> jax.Array:
    return jnp.maximum(one, other) if largest else one + other


def _IS_LARGEST(seen: Mapping[str, Any]) -> dict[str, Any]:
    return {path: {name: name == "largest_I" for name in sums} for path, sums in seen.items()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(model: Model, paths: tuple[str, ...], params: Any, batch: Batch) -> dict[str, Any]:
    """{path: {name of a sum: array}}."""
    flat, inputs = flatten(params), flatten(model.inputs)
    empty = {path: _empty(flatten(model.shapes)[path].shape, _stack(model, path), inputs[path]) for path in paths}

    def of(beside: Mapping[str, Any]) -> jax.Array:
        watched = {path: Watched(whole(flat[path]), **sums) for path, sums in beside.items()}
        return model.bind(nest(flat | watched)).encode(batch, None).x_BTD.astype(jnp.float32).sum()

    return jax.grad(of)(empty)


def _stack(model: Model, path: str) -> int:
    from jaxlm.models.parameters import STACKS

    return sum(name in STACKS for name in flatten(model.axes)[path])


def _empty(shape: Sequence[int], stack: int, inputs: int) -> dict[str, jax.Array]:
    size = math.prod(shape[stack : stack + inputs])
    of = lambda *own: jnp.zeros((*shape[:stack], *own), jnp.float32)
    return {"square_II": of(size, size), "largest_I": of(size), "total_I": of(size)}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Watched(AsArray):
    """A weight whose gradient to what stands beside it is what comes in, summed up."""

    base: jax.Array
    square_II: jax.Array
    largest_I: jax.Array
    total_I: jax.Array

    def astype(self, dtype: Any) -> "Watched":
        """The weight in that dtype; sums stay float32."""
        return dataclasses.replace(self, base=self.base.astype(dtype))

    def full(self) -> jax.Array:
        """The weight."""
        return self.base

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """As that of the weight."""
        beside = (self.square_II, self.largest_I, self.total_I)
        return _watched(contracted, result, x, self.base, beside)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _watched(contracted: int, result: Any, x: jax.Array, weight: jax.Array, beside: Any) -> jax.Array:
    return dense(x, weight, contracted=contracted, result=result)


def _watched_forward(contracted: int, result: Any, x: jax.Array, weight: jax.Array, beside: Any) -> Any:
    return _watched(contracted, result, x, weight, beside), (x, weight)


def _watched_backward(contracted: int, result: Any, kept: Any, g: jax.Array) -> Any:
    """Nothing goes further back: the sums do not depend on g, so that no other gradient is computed."""
    x, weight = kept
    x_RI = x.reshape(-1, math.prod(x.shape[x.ndim - contracted :])).astype(jnp.float32)
    square_II = jnp.matmul(x_RI.T, x_RI, precision=jax.lax.Precision.HIGHEST)
    size = jnp.abs(x_RI)
    return jnp.zeros_like(x), jnp.zeros_like(weight), (square_II, size.max(0), size.sum(0))


_watched.defvjp(_watched_forward, _watched_backward)


def paths_of(found: Iterable[str]) -> tuple[str, ...]:
    """In a fixed order."""
    return tuple(sorted(found))
