"""Which curves a page has. In: what runs measured. Out: `Curve`s, those that everybody looks at first.

Training and held-out text of all runs stand in one.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from jaxlm.monitor.meanings import meaning
from jaxlm.report.told import Told, finite

Kind = Literal["train", "held-out", ""]
_KINDS: dict[str, Kind] = {"train": "train", "eval": "held-out"}
_ACCURACY = "_accuracy"
_TITLES = {
    "loss": ("Loss", "nats"),
    "mlm_accuracy": ("Masked-LM accuracy", ""),
    "lm_accuracy": ("Accuracy", ""),
    "nsp_accuracy": ("Next-sentence accuracy", ""),
    "sop_accuracy": ("Sentence-order accuracy", ""),
    "contrastive_accuracy": ("Contrastive accuracy", ""),
    "optim/learning_rate": ("Learning rate", ""),
    "optim/grad_norm": ("Gradient norm", "before clipping"),
    "throughput/useful_tokens_per_second": ("Throughput", "tokens/s"),
}
_LAST = ("optim/learning_rate", "optim/grad_norm", "throughput/useful_tokens_per_second")
_MOST = 99.0  # nats, whose exponential is still a number


@dataclasses.dataclass(frozen=True)
class Series:
    """One metric of one run; a value that was not finite is None."""

    run: int  # its number on the page
    kind: Kind
    metric: str
    steps: list[int]
    values: list[float | None]


@dataclasses.dataclass(frozen=True)
class Level:
    """A value to compare with, at all steps."""

    run: int | None  # None: the same for all
    text: str
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """What stands in one plot."""

    title: str
    unit: str
    note: str
    series: list[Series]
    levels: list[Level] = dataclasses.field(default_factory=list)
    percent: bool = False


def all_curves(runs: Sequence[Told]) -> tuple[list[Curve], list[Curve]]:
    """(those everybody looks at, every other metric)."""
    names = list(dict.fromkeys(_base(name) for run in runs for line in run.lines for name in line))
    names.remove("step")
    accuracies = [name for name in names if name.endswith(_ACCURACY)]
    first = [name for name in ("loss", *accuracies, *_LAST) if name in names]
    main = [_curve(runs, name) for name in first]
    if "lm_loss" in names:
        main.insert(1, _perplexity(runs))
    return main, [_curve(runs, name) for name in sorted(set(names) - set(first))]


def series(run: Told, number: int, metric: str) -> Series:
    """A metric as metrics.jsonl has it."""
    found = [(line["step"], line[metric]) for line in run.lines if metric in line]
    values = [float(value) if finite(value) else None for _, value in found]
    return Series(number, _KINDS.get(metric.partition("/")[0], ""), metric, [s for s, _ in found], values)


def _base(metric: str) -> str:
    """Training and held-out text share a plot."""
    kind, _, rest = metric.partition("/")
    return rest if kind in _KINDS else metric


def _curve(runs: Sequence[Told], name: str) -> Curve:
    title, unit = _TITLES.get(name, (name, ""))
    return Curve(
        title=title,
        unit=unit,
        note=meaning(name),
        series=list(_all_series(runs, name)),
        levels=_baselines(runs) if name == "loss" else [],
        percent=name.endswith((_ACCURACY, "_share", "mfu")),
    )


def _all_series(runs: Sequence[Told], name: str) -> Iterable[Series]:
    for number, run in enumerate(runs):
        for metric in (f"train/{name}", f"eval/{name}", name):
            if (found := series(run, number, metric)).steps:
                yield found


def _perplexity(runs: Sequence[Told]) -> Curve:
    made = [dataclasses.replace(one, values=_each(math.exp, one)) for one in _all_series(runs, "lm_loss")]
    return Curve(
        title="Perplexity", unit="", note="the exponential of the loss per target token", series=made
    )


def _each(function: Callable[[float], float], one: Series) -> list[float | None]:
    return [None if value is None else function(min(value, _MOST)) for value in one.values]


def _baselines(runs: Sequence[Told]) -> list[Level]:
    """The unigram cross-entropy where it is that of the whole loss, once where runs agree."""
    whole = {k: run.log.baselines[0].unigram for k, run in enumerate(runs) if _of_all(run)}
    if len(set(whole.values())) == 1:
        return [Level(None, "unigram", next(iter(whole.values())))]
    return [Level(number, "unigram", value) for number, value in whole.items()]


def _of_all(run: Told) -> bool:
    return len(run.log.baselines) == 1 and not run.log.baselines[0].of
