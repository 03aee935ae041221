"""A weight whose gradient is kept in parts: every device's own sum goes straight to where its part belongs.

In: an array, and how it lies in parts. Out: a `Value` that stands for it. Guaranteed: the same sums as without, to
rounding. Left to the partitioner, the sum over devices is formed whole on each of them and then cut: twice the traffic.

A TPU does not scatter a sum over a whole torus at once, and forms it whole there, too, where both sides are as long
(v5e-16, v5e-256). So it goes along one direction of the torus first, then along the others.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxlm.models import activations, kernels
from jaxlm.models.dense import dense
from jaxlm.models.values import AsArray


@dataclasses.dataclass(frozen=True)
class Parts:
    """How arrays lie on a mesh axis: `dimension` counts from the end, so that it holds for a stack and for one of it;
    the devices of the axis lie in so many `lines` of a torus, one line after the other."""

    axis: str
    dimension: int
    lines: int

    def scattered(self, whole: jax.Array, others: tuple[str, ...] = ()) -> jax.Array:
        """The sum over the axis, and over others, of which every device keeps its part; inside `jax.shard_map`."""
        dtype, devices = whole.dtype, jax.lax.axis_size(self.axis)
        if kernels.platform() == "cpu":  # where XLA ends the process over a sum of bfloat16 (jaxlib 0.10.2)
            whole = whole.astype(jnp.float32)
        numbers = np.arange(devices).reshape(self.lines, -1)
        steps = (numbers.T, numbers) if 1 < self.lines < devices else (numbers.reshape(1, -1),)
        for groups in steps:
            whole = jax.lax.psum_scatter(
                whole,
                self.axis,
                scatter_dimension=whole.ndim + self.dimension,
                axis_index_groups=groups.tolist() if len(steps) > 1 else None,
                tiled=True,
            )
        return (jax.lax.psum(whole, others) if others else whole).astype(dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Parted(AsArray):
    """See above."""

    array: jax.Array
    parts: Parts = dataclasses.field(metadata={"static": True})

    def product(self, x: jax.Array, contracted: int, result: jnp.dtype | None) -> jax.Array:
        """As the array."""
        over = self._over(x.shape)
        if not over:
            return dense(x, self.array, contracted=contracted, result=result)
        return _product((self.parts, over), contracted, result, x, self.array)

    def rows(self, ids: jax.Array) -> jax.Array:
        """As the array."""
        over = self._over(ids.shape) if isinstance(ids, jax.Array) else ()
        return _rows((self.parts, over), len(self.array), self.array, ids) if over else self.array[ids]

    def full(self) -> jax.Array:
        """The array."""
        return self.array

    def start(self) -> jax.Array:
        """The array: what it was is not known."""
        return self.array

    def gathered(self) -> jax.Array:
        """The whole of what is one device's part, inside `jax.shard_map`."""
        return _gathered(self.parts, self.array)

    @property
    def T(self) -> "Parted":
        """Its dimensions in the other order."""
        turned = -1 - self.array.ndim - self.parts.dimension
        return Parted(self.array.T, dataclasses.replace(self.parts, dimension=turned))

    def _over(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """The axes that split such rows, if its own is among them."""
        if not shape:
            return ()
        spec = activations.spec(jax.sharding.get_abstract_mesh(), shape[:1], ("batch",))
        over = activations.axes(spec[0])
        return over if self.parts.axis in over else ()


def of(array: jax.Array, spec: PartitionSpec, axis: str, lines: int) -> jax.Array | Parted:
    """The array, or what stands for it where `axis` alone splits one of its dimensions."""
    for dimension, entry in enumerate(spec):
        if activations.axes(entry) == (axis,):
            return Parted(array, Parts(axis, dimension - array.ndim, lines))
    return array


def _summed(where: tuple[Parts, tuple[str, ...]], local: Any, *arrays: jax.Array) -> jax.Array:
    """The sum over devices of `local(*their rows)`, in parts."""
    parts, over = where
    others = tuple(name for name in over if name != parts.axis)

    own = lambda *rows: parts.scattered(local(*rows), others)
    rank = jax.eval_shape(local, *arrays).ndim
    kept = PartitionSpec(*(parts.axis if i == rank + parts.dimension else None for i in range(rank)))
    rows = tuple(PartitionSpec(over) for _ in arrays)
    return jax.shard_map(own, in_specs=rows, out_specs=kept, axis_names=set(over), check_vma=False)(*arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _product(where: Any, contracted: int, result: Any, x: jax.Array, weight: jax.Array) -> jax.Array:
    return dense(x, weight, contracted=contracted, result=result)


def _product_forward(
    where: Any, contracted: int, result: Any, x: jax.Array, weight: jax.Array
) -> tuple[jax.Array, Any]:
    return dense(x, weight, contracted=contracted, result=result), (x, weight)


def _product_backward(
    where: Any, contracted: int, result: Any, kept: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    apply = functools.partial(dense, contracted=contracted, result=result)
    of_x = jax.vjp(lambda x: apply(x, weight), x)[1](g)[0]

    def of_weight(x: jax.Array, g: jax.Array) -> jax.Array:
        any_one = jnp.zeros(weight.shape, weight.dtype)  # the product is linear
        return jax.vjp(lambda w: apply(x, w), any_one)[1](g)[0]

    return of_x, _summed(where, of_weight, x, g)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _rows(where: Any, count: int, table: jax.Array, ids: jax.Array) -> jax.Array:
    return table[ids]


def _rows_forward(where: Any, count: int, table: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    return table[ids], ids


def _rows_backward(where: Any, count: int, ids: jax.Array, g: jax.Array) -> tuple[jax.Array, None]:
    sums = lambda ids, g: jnp.zeros((count, *g.shape[ids.ndim :]), g.dtype).at[ids].add(g)
    return _summed(where, sums, ids, g), None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered(parts: Parts, part: jax.Array) -> jax.Array:
    return jax.lax.all_gather(part, parts.axis, axis=part.ndim + parts.dimension, tiled=True)


_product.defvjp(_product_forward, _product_backward)
_rows.defvjp(_rows_forward, _rows_backward)
_gathered.defvjp(
    lambda parts, part: (_gathered(parts, part), None), lambda parts, _, g: (parts.scattered(g),)
)
