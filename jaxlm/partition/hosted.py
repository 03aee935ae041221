"""State that lies in the host's memory. In: a function that makes a new state of an old one. Out: the same, for a state
of which arrays lie there.

Forward and backward pass read neither moments nor averages, so these may be with the host meanwhile. What belongs to
one parameter is brought, updated and taken back before the next one's is brought, so that a device never holds more
than `Turns.room` of them: an optimizer is one function of all parameters, whose operations are therefore executed
parameter by parameter, in the order in which results are asked for. Guarantee: the same operations on the same numbers.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxlm.errors import UserError

MEMORY = "pinned_host"  # as JAX calls what devices read and write by themselves


def is_hosted(leaf: Any) -> bool:
    """Whether an array, or its shape, lies in the host's memory."""
    return leaf.sharding.memory_kind == MEMORY


def size(abstract: Any) -> int:
    """Bytes of one device that lie in its host's memory."""
    return sum(held(leaf) for leaf in jax.tree.leaves(abstract) if is_hosted(leaf))


def on_host(leaf: Any) -> Any:
    """The shape of an array, with its sharding in the host's memory."""
    where = leaf.sharding.with_memory_kind(MEMORY)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def on_device(tree: Any, like: Any) -> Any:
    """Arrays where the shapes of `like` lie, but all of them on the devices."""
    return jax.tree.map(lambda x, shape: _brought(x, shape) if is_hosted(shape) else x, tree, like)


def check(device: Any, where: str) -> None:
    """UserError unless programs of such a device reach the memory of its host."""
    memories = [one.kind for one in device.addressable_memories()]
    if MEMORY not in memories:
        raise UserError(
            f"{where}.optimizer_memory='host': programs of {device.platform} ({device.device_kind}) do not reach their "
            f"host's memory, only {', '.join(memories)}. Fix: --{where}.optimizer_memory=device."
        )


@dataclasses.dataclass(frozen=True)
class Turns:
    """An update in turns, one for each owner. `state`: its shapes; `owners`: of each of its arrays, () for none."""

    state: Any
    owners: Sequence[tuple[str, ...]]

    def __call__(self, function: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
        """`function(state, *others) -> (new state, rest)`, whose rest needs nothing that is hosted."""
        shapes, structure = jax.tree.flatten(self.state)
        if not any(map(is_hosted, shapes)):
            return function

        def in_turns(state: Any, *others: Any) -> tuple[Any, Any]:
            plain = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in shapes]
            traced = jax.make_jaxpr(function, return_shape=True)
            program, (_, rest) = traced(jax.tree.unflatten(structure, plain), *others)
            made = _Execution(program, shapes, [*jax.tree.leaves(state), *jax.tree.leaves(others)])
            first = made.results(range(len(shapes), len(program.jaxpr.outvars)))
            made.wait_for(first)  # nothing is brought before the gradient is there
            new = self._updated(made, shapes)
            return jax.tree.unflatten(structure, new), jax.tree.structure(rest).unflatten(first)

        return in_turns

    def _updated(self, made: "_Execution", shapes: Sequence[Any]) -> list[Any]:
        """The new state's arrays, where they belong."""
        new: dict[int, jax.Array] = {}
        under_way: list[tuple[int, list[jax.Array]]] = []  # (bytes, what is taken back) of turns
        room = self.room
        for turn in self._turns(shapes):
            hosted = [i for i in turn if is_hosted(shapes[i])]
            size = sum(held(shapes[i]) for i in hosted)
            while under_way and size + sum(n for n, _ in under_way) > room:
                made.wait_for(under_way.pop(0)[1])
            found = made.results(turn)
            new |= {i: _taken(x, shapes[i]) for i, x in zip(turn, found, strict=True)}
            under_way.append((size, [new[i] for i in hosted]))
        return [new[i] for i in range(len(shapes))]

    @property
    def room(self) -> int:
        """Bytes of hosted arrays that a device holds at once: those of the owner that has most."""
        shapes = jax.tree.leaves(self.state)
        size = lambda turn: sum(held(shapes[i]) for i in turn if is_hosted(shapes[i]))
        return max(map(size, self._turns(shapes)), default=0)

    def _turns(self, shapes: Sequence[Any]) -> list[list[int]]:
        """The numbers of the arrays that belong together."""
        key = lambda i: self.owners[i]
        return [list(turn) for _, turn in itertools.groupby(sorted(range(len(shapes)), key=key), key)]


class _Execution:
    """The operations of a program, each executed when the first result is asked for that needs it."""

    def __init__(self, program: Any, shapes: Sequence[Any], values: Sequence[Any]) -> None:
        self.program, self.ready = program.jaxpr, jnp.zeros(())
        inputs = self.program.invars
        self.hosted = {v: shape for v, shape in zip(inputs, shapes, strict=False) if is_hosted(shape)}
        self.known: dict[Any, Any] = dict(zip(self.program.constvars, program.consts, strict=True))
        self.known |= dict(zip(inputs, values, strict=True))

    def wait_for(self, arrays: Sequence[jax.Array]) -> None:
        """What is brought from now on is brought after these."""
        self.ready = jax.lax.optimization_barrier((self.ready, *arrays))[0]

    def results(self, numbers: Sequence[int] | range) -> list[Any]:
        """Those of the program. What lies with the host is brought when it is read first."""
        asked = [self.program.outvars[i] for i in numbers]
        wanted, needed = {one for one in asked if not isinstance(one, core.Literal)}, []
        for one in reversed(self.program.eqns):
            if any(v in wanted and v not in self.known for v in one.outvars):
                needed.append(one)
                wanted |= {v for v in one.invars if not isinstance(v, core.Literal)}
        for one in reversed(needed):
            params = one.primitive.get_bind_params(one.params)
            made = one.primitive.bind(*map(self._value, one.invars), **params)
            results = made if one.primitive.multiple_results else [made]
            self.known |= dict(zip(one.outvars, results, strict=True))
        return [self._value(one) for one in asked]

    def _value(self, one: Any) -> Any:
        if isinstance(one, core.Literal):
            return one.val
        if one in self.hosted:
            there, _ = jax.lax.optimization_barrier((self.known[one], self.ready))
            self.known[one] = _brought(there, self.hosted.pop(one))
        return self.known[one]


def _brought(x: jax.Array, shape: Any) -> jax.Array:
    return jax.device_put(x, shape.sharding.with_memory_kind("device"))


def _taken(x: jax.Array, shape: Any) -> jax.Array:
    return jax.device_put(x, shape.sharding) if is_hosted(shape) else x


def held(shape: Any) -> int:
    """Bytes of one device of an array, or of its shape with a sharding, wherever they lie."""
    return math.prod(shape.sharding.shard_shape(shape.shape)) * shape.dtype.itemsize
