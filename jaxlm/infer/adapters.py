"""Several adapters over one base, which every row of a batch chooses among. In: a base, adapters by name. Out: a
`Loaded` whose `choosing` says the adapter of every row.

Guaranteed: the base is held once, whatever the number of adapters, and applied to all rows at once; any mix of adapters
runs through one compiled program; a row's result is that of its adapter alone, to rounding.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.config import flags
from jaxlm.errors import UserError
from jaxlm.exchange import adapters as opening
from jaxlm.exchange import tokenizer_files
from jaxlm.exchange.adapters import HEADS, Part
from jaxlm.infer import loaded
from jaxlm.infer.loaded import Loaded
from jaxlm.models.build import Dtype, Model, build
from jaxlm.models.paths import flatten, nest
from jaxlm.models.several import SeveralLowRank, SeveralWhole
from jaxlm.partition import state as partition
from jaxlm.partition.mesh import SPLIT, Mesh

_NEVER = -1e30  # the logit of a class that an adapter does not have


def load(
    base: str,
    adapters: Mapping[str, str],
    *,
    step: int | None = None,
    dtype: Dtype = "float32",
    mesh: Mesh = SPLIT,
) -> Loaded:
    """`base` as in `loaded.load`; adapters as in `exchange.adapters.opened`, by the names that rows choose them by.

    UserError for adapters that cannot stand in one batch.
    """
    if not adapters:
        raise UserError("adapters={}: name at least one.")
    under = loaded.load(base, step=step, dtype=dtype, mesh=mesh)
    parts = {name: opening.opened(str(where), base, loaded.aside) for name, where in adapters.items()}
    _check(under, parts)
    first = next(iter(parts.values())).stored
    model = build(first.config, first.heads, dtype=dtype)
    return Loaded(
        model=model,
        params=nest(_weights(under, model, parts)),
        mesh=under.mesh,
        tokenizer=tokenizer_files.open_files(first.tokenizer, first.where),
        row_length=min(loaded.row_length(part.stored) for part in parts.values()),
        stored=first,
        adapters={name: part.stored for name, part in parts.items()},
    )


def of_options(options: argparse.Namespace) -> Loaded:
    """What the options of `commands.options.add_model` and `add_adapters` say."""
    flags.named_recipe(options.recipe, options.run, *(where for _, where in options.adapter))
    return load(options.run, dict(options.adapter), step=options.step, **loaded.settings(options))


def _weights(under: Loaded, model: Model, parts: Mapping[str, Part]) -> dict[str, Any]:
    """Heads of all adapters, the base, and the thin matrices of all beside it."""
    held, made = flatten(under.params), {}
    everywhere = partition.replicated(under.mesh)
    put = lambda x: jax.device_put(jnp.asarray(x, jnp.dtype(model.dtype)), everywhere)
    for path, axes in flatten(model.axes).items():
        shape, layers = flatten(model.shapes)[path].shape, int(axes[:1] == ("layers",))
        which = np.zeros((*shape[:layers], 0), np.int32)  # see Loaded.choosing
        if path.startswith(HEADS):
            each = _same(path, [part.heads[path] for part in parts.values()])
            made[path] = SeveralWhole(put(np.stack(each, layers)), which)
            continue
        fits = path in held and held[path].shape == shape
        made[path] = held[path] if fits else put(_grown(path, shape, under, parts))
        if any(path in part.thin for part in parts.values()):
            a, b = _padded([part.thin.get(path) for part in parts.values()], layers)
            made[path] = SeveralLowRank(made[path], put(a), put(b), which)
    return made


def _grown(path: str, shape: tuple[int, ...], under: Loaded, parts: Mapping[str, Part]) -> np.ndarray:
    """What training made of a weight of the base before it began, such as more positions: the same for all adapters."""
    whole = {path: partition.replicated(under.mesh)}
    name, *others = parts
    made = {name: np.asarray(part.stored.place(whole)[path]) for name, part in parts.items()}
    if path not in flatten(under.params) or made[name].shape != shape:
        raise UserError(f"{under.stored.where} is another base: adapters have {path} of shape {shape}.")
    for other in others:
        if not np.array_equal(made[name], made[other]):
            raise UserError(
                f"adapters {name} and {other} were trained with {path} each of its own, longer than that of "
                f"{under.stored.where}. Fix: predict with each alone, or train both with the same seed and sizes."
            )
    return made[name]


def _check(under: Loaded, parts: Mapping[str, Part]) -> None:
    """UserError for adapters of different kinds."""
    (name, first), *others = ((name, part.stored) for name, part in parts.items())
    for other, found in others:
        if [*found.heads] != [*first.heads] or any(
            type(found.heads[head]) is not type(first.heads[head]) for head in first.heads
        ):
            raise UserError(
                f"adapters {name} and {other} have different heads ({', '.join(first.heads) or 'none'}; "
                f"{', '.join(found.heads) or 'none'}): a batch takes adapters of one kind. Fix: load them apart."
            )
        if found.fingerprint and first.fingerprint and found.fingerprint != first.fingerprint:
            raise UserError(f"adapters {name} and {other} were trained with different tokenizers.")


def _same(path: str, each: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Weights of heads in one shape: a class that an adapter does not have gets no share."""
    most = max(array.shape[-1] for array in each)
    if len({array.shape[:-1] for array in each}) > 1:
        raise UserError(f"{path} has the shapes {', '.join(str(array.shape) for array in each)}.")
    fill = _NEVER if each[0].ndim == 1 else 0.0
    wider = lambda array: [*[(0, 0)] * (array.ndim - 1), (0, most - array.shape[-1])]
    return [np.pad(array, wider(array), constant_values=fill) for array in each]


def _padded(
    each: Sequence[tuple[np.ndarray, np.ndarray] | None], layers: int
) -> tuple[np.ndarray, np.ndarray]:
    """a, b of all in one rank, and zeros behind them for the base alone; the axis of adapters behind that of layers."""
    some_a, some_b = next(pair for pair in each if pair is not None)
    nothing = some_a[..., :0], some_b[(slice(None),) * layers + (slice(0, 0),)]
    pairs = [pair or nothing for pair in (*each, None)]
    rank = max(a.shape[-1] for a, _ in pairs)

    def wide(array: np.ndarray, axis: int) -> np.ndarray:
        more = [(0, 0)] * array.ndim
        more[axis] = (0, rank - array.shape[axis])
        return np.pad(array, more)

    return np.stack([wide(a, -1) for a, _ in pairs], layers), np.stack(
        [wide(b, layers) for _, b in pairs], layers
    )
