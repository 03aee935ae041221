"""Model soups (Wortsman et al., 2203.05482): the mean of several runs' weights. In: run folders. Out: another one.

Guaranteed: what is averaged began as the same weights, heads included, and has the same tokenizer, labels and model.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxlm.checkpoint.policy import Keep
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Run
from jaxlm.data.places import expanded
from jaxlm.errors import UserError
from jaxlm.exchange import stored
from jaxlm.exchange.stored import Stored
from jaxlm.models.paths import flatten, nest
from jaxlm.run.program import Program

Say = Callable[[str], None]
_KEPT = ("config.json", "tokenizer", "stream", "environment.jsonl")  # of the first run's folder


def opened(names: Sequence[str], say: Say) -> list[Stored]:
    """The best checkpoint of every run. UserError unless their weights may be averaged."""
    if len(names) < 2:
        raise UserError(f"a soup takes two runs or more, and there is {len(names)}.")
    found = []
    for name in names:
        if stored.is_foreign(name):
            raise UserError(f"{name} is no run folder: its task is not known.")
        stored.check_ours(expanded(name))
        found.append(stored.open_stored(name, say=say, step=stored.best_step(expanded(name))))
    for one in found:
        _check(found[0], one)
    return found


def _check(first: Stored, other: Stored) -> None:
    a, b = first.run, other.run
    if a is None or b is None or a.view or b.view:
        raise UserError(f"{other.where}: a soup takes runs that train whole models, and this one has a view.")
    differs = [
        name
        for name, of in (
            ("model", lambda run: _sizes(run.model)),
            ("init_from", lambda run: run.init_from),
            ("reset_layers", lambda run: run.reset_layers),
            ("labels", lambda run: _labels(run.objective)),
        )
        if of(a) != of(b)
    ]
    if first.fingerprint != other.fingerprint:
        differs.append("tokenizer")
    if {p: tuple(s.shape) for p, s in first.shapes.items()} != {
        p: tuple(s.shape) for p, s in other.shapes.items()
    }:
        differs.append("shapes of weights")
    if a.seed != b.seed and (drawn := _drawn(a, first)):
        differs.append(f"seed, from which {', '.join(drawn[:3])} are drawn")
    if differs:
        raise UserError(
            f"{other.where} and {first.where} did not begin as the same weights: they differ in {'; '.join(differs)}. "
            "Fix: one init_from and one seed, as of runs with several rates, or an init_from that has the head."
        )


def _sizes(model: Any) -> dict[str, Any]:
    return {f.name: getattr(model, f.name) for f in dataclasses.fields(model) if "dropout" not in f.name}


def _labels(objective: Any) -> Any:
    while hasattr(objective, "of") and dataclasses.is_dataclass(objective.of):
        objective = objective.of
    return getattr(objective, "labels", None)


def _drawn(run: Run, one: Stored) -> list[str]:
    """Weights that are no part of what the run began with."""
    if not run.init_from or run.reset_layers:
        return sorted(one.shapes)
    return sorted(set(one.shapes) - set(stored.open_stored(run.init_from, say=lambda line: None).shapes))


def weights(one: Stored, like: Any) -> Any:
    """The trained parameters of a run, laid out as `like`."""
    return nest(one.place({path: leaf.sharding for path, leaf in flatten(like).items()}))


def mean(trees: Sequence[Any]) -> Any:
    """Of parameters, float32."""
    return jax.tree.map(lambda *arrays: sum(arrays[1:], start=arrays[0]) / len(arrays), *trees)


def greedy(
    trees: Sequence[Any], names: Sequence[str], score: Callable[[Any], float], say: Say
) -> tuple[Any, list[str]]:
    """(mean, names) of the runs that help: the best, then each that does no harm. `score`: lower is better."""
    alone = sorted((score(tree), number) for number, tree in enumerate(trees))
    best, first = alone[0]
    kept = [first]
    for _, number in alone[1:]:
        value = score(mean([trees[i] for i in (*kept, number)]))
        told = "kept" if value <= best else "left out"
        say(f"with {names[number]}: {abs(value):.4f}, {told} (so far {abs(best):.4f})")
        if value <= best:
            best, kept = value, [*kept, number]
    return mean([trees[i] for i in kept]), [names[i] for i in kept]


def write(
    target: pathlib.Path,
    source: pathlib.Path,
    program: Program,
    found: Stored,
    soup: Any,
    names: Sequence[str],
    say: Say,
) -> None:
    """A run folder with these weights, and all else of the first run's. UserError when there is something already."""
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty. Fix: another --output.")
    with_optimizer, meta = Checkpoints(source / "checkpoints", None, say=say).restore(
        found.step, program.state
    )
    ema = None if with_optimizer.ema is None else soup
    state = dataclasses.replace(with_optimizer, params=soup, ema=jax.tree.map(lambda a: a + 0, ema))
    target.mkdir(parents=True, exist_ok=True)
    for name in _KEPT:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copy(source / name, target / name)
    made = Checkpoints(target / "checkpoints", Keep(), say=say)
    made.save(found.step, state, {**meta, "soup": list(names)}, {}, final=True)
    made.close()
