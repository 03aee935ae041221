"""What goes into a model's matrices on text of a user. In: a model, text. Out: sums over its activations.

All layers are measured in one pass: a weight is replaced by one whose gradient to an array beside it is what is wanted,
so that scans, meshes and rematerialisation treat these sums as they treat gradients. Guaranteed: rows are filled with
text, so that no padding counts; what a matrix gets is what the whole model, as it is then, makes of that text.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
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
from jaxlm.views.view import facts, parts

_AT_ONCE = 4096  # tokens of a batch


@dataclasses.dataclass(kw_only=True)
class Text:
    """Text that activations are measured on: of the kind that the model will read."""

    file: str  # of text, UTF-8, .gz and .zst too; empty: it has to be named (--text=FILE)
    rows: int  # customary: 128 of 2,048 tokens; 0: none, for steps that count the tokens of the whole file
    length: int  # tokens of a row; no more than the model reads

    def validate(self, where: str) -> None:
        """UserError for numbers that cannot be."""
        for name, least in (("rows", 0), ("length", 1)):
            if not least <= getattr(self, name) < 2**20:
                raise UserError(
                    f"{where}.{name}={getattr(self, name)}: must be {least} or more (customary: 128 of 2,048)."
                )

    def read(self, model: Loaded) -> "Calibration":
        """Rows of the text from its beginning. UserError when there is too little of it."""
        if not self.file:
            raise UserError(
                "This recipe reads text, and none is named. Fix: --text=FILE, of the kind that the model "
                "will read."
            )
        if not self.rows:
            return Calibration(np.zeros((0, self.length), np.int32), self.file)
        config = model.model.config
        if config.kind not in ("encoder", "decoder"):
            raise UserError(
                f"{type(config).__name__} is of the kind {config.kind}, and activations are measured of encoders and "
                "decoders. Fix: a recipe that needs no text."
            )
        length = min(self.length, model.row_length)
        before, behind = model.tokenizer.vocabulary.marks if config.kind == "encoder" else ((), ())
        ids: list[int] = []
        inside = length - len(before) - len(behind)
        for _, line in lines.numbered(self.file):
            ids += model.tokenizer.encode_batch([line.strip()])[0].tolist()
            if len(ids) >= inside * self.rows:
                break
        if len(ids) < inside * self.rows:
            raise UserError(
                f"{self.file} has {len(ids):,} tokens, and {self.rows} rows of {length} take {inside * self.rows:,}. "
                "Fix: more text, fewer rows (--config.calibration.rows), or shorter ones (--config.calibration.length)."
            )
        starts = range(0, inside * self.rows, inside)
        rows = [[*before, *ids[at : at + inside], *behind] for at in starts]
        return Calibration(np.array(rows, np.int32), self.file)


@jax.tree_util.register_dataclass
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
    file: str = ""  # that they were read from

    @property
    def tokens(self) -> int:
        """Of all rows."""
        return self.tokens_RT.size

    def batches(self) -> Iterator[Batch]:
        """The rows, few at a time. UserError when there are none."""
        if not len(self.tokens_RT):
            raise UserError(
                "config.calibration.rows=0, and a step measures activations. Fix: --config.calibration.rows=128."
            )
        at_once = max(1, _AT_ONCE // self.tokens_RT.shape[1])
        for at in range(0, len(self.tokens_RT), at_once):
            yield Batch.full(self.tokens_RT[at : at + at_once])

    def inputs(self, model: Loaded, paths: Sequence[str]) -> dict[str, Inputs]:
        """Of the matrices at these paths (of the body; 0 for those that it does not pass)."""
        found: dict[str, Any] | None = None
        with jax.set_mesh(model.mesh):
            for batch in self.batches():
                seen = _measured(model.model, tuple(sorted(paths)), model.params, batch)
                found = seen if found is None else _joined(found, seen)
        assert found is not None
        return {path: Inputs(**sums) for path, sums in found.items()}


def _joined(some: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Of two batches."""
    join = lambda name, a, b: jnp.maximum(a, b) if name == "largest_I" else a + b
    return {
        path: {name: join(name, array, others[path][name]) for name, array in sums.items()}
        for path, sums in some.items()
    }


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(model: Model, paths: tuple[str, ...], params: Any, batch: Batch) -> dict[str, Any]:
    """{path: {name of a sum: array}}."""
    flat = flatten(params)
    empty = {path: _empty(model, path) for path in paths}

    def of(beside: Mapping[str, Any]) -> jax.Array:
        watched = {path: Watched(whole(flat[path]), **sums) for path, sums in beside.items()}
        return model.bind(nest(flat | watched)).encode(batch, None).x_BTD.astype(jnp.float32).sum()

    return jax.grad(of)(empty)


def _empty(model: Model, path: str) -> dict[str, jax.Array]:
    stack, inner, _ = parts(facts(model)[path], flatten(model.shapes)[path].shape)
    size = math.prod(inner)
    of = lambda *own: jnp.zeros((*stack, *own), jnp.float32)
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
