"""What is said of a run at a glance: its state, how well, how far and how fast. In: a `Told`. Out: texts."""

import math
from typing import Any

from jaxlm.monitor.console import duration, human
from jaxlm.report.curves import series
from jaxlm.report.told import Told, finite

NONE = "–"


def state(run: Told) -> tuple[str, str]:
    """(kind, text): done, running, stopped or diverged."""
    if run.running:
        return "running", f"running, step {run.step:,} of {run.steps:,}"
    if run.step >= run.steps:
        return "done", "done"
    if run.log.stopped_early:
        return "done", f"stopped early at step {run.step:,} of {run.steps:,}"
    if run.diverged >= run.step:
        return "diverged", f"diverged at step {run.diverged:,} of {run.steps:,}"
    return "stopped", f"stopped at step {run.step:,} of {run.steps:,}"


def headline(run: Told) -> list[tuple[str, str, str]]:
    """The closing figures: (what, value, what to compare it with)."""
    return [_loss(run), *_quality(run), ("Steps", f"{run.step:,}", f"of {run.steps:,}"), _time(run)]


def overview(run: Told) -> dict[str, str]:
    """A fact a line, the same lines for all runs."""
    config = run.config
    return {
        "state": state(run)[1],
        "recipe": recipe(run),
        "model": f"{kind(config['model'])}, {parameters(run)} parameters",
        "objective": kind(config["objective"]),
        "corpus": corpus(config["data"]),
        "steps": f"{run.step:,} of {run.steps:,}, {config['batch_size']:,} rows of {_lengths(run)} tokens each",
        "tokens": f"{human(tokens(run))} useful ones",
        "time": f"{duration(run.log.seconds)} in {_starts(run)}" if run.log.seconds else NONE,
        "device": device(run),
        "held-out loss": _held_out(run),
        "best step": _best(run),
        "isolation of documents": _isolation(run),
        "attested stream": _stream(run),
        "versions": _versions(run),
    }


def kind(node: Any) -> str:
    """The class of a part of the configuration."""
    return str(node.get("type", "")).rpartition(".")[2] if isinstance(node, dict) else NONE


def recipe(run: Told) -> str:
    """The file that was executed, without its folder, with its argument."""
    file, colon, argument = str(run.code.get("recipe", "")).partition(":")
    return f"{file.rpartition('/')[2]}{colon}{argument}" or NONE


def corpus(data: dict[str, Any]) -> str:
    """What is read."""
    if data.get("mixture"):
        return "mixture of " + ", ".join(share["name"] for share in data["mixture"]["shares"])
    return data.get("corpus") or kind(data.get("reader")) or NONE


def parameters(run: Told) -> str:
    """As the table before training says it, else those of the newest checkpoint."""
    arrays = run.saved.get("arrays", {})
    count = sum(math.prod(one["shape"]) for name, one in arrays.items() if name.startswith("params/"))
    return run.log.facts.get("parameters") or (human(count) if count else "?")


def tokens(run: Told) -> float:
    """Useful ones of all steps that were measured."""
    total, before = 0.0, 0
    for line in run.lines:
        if finite(each := line.get("train/useful_tokens_per_step")):
            total += each * (line["step"] - before)
            before = line["step"]
    return total


def device(run: Told) -> str:
    """What it was trained on last."""
    return run.log.facts.get("devices") or (run.starts[-1]["devices"] if run.starts else NONE)


def newest(run: Told, metric: str) -> float | None:
    """The last finite value of a metric."""
    values = [value for value in series(run, 0, metric).values if value is not None]
    return values[-1] if values else None


def _loss(run: Told) -> tuple[str, str, str]:
    loss, baselines = newest(run, "eval/loss"), run.log.baselines
    if loss is None:
        loss = newest(run, "train/loss")
        return "Training loss", NONE if loss is None else f"{loss:.3f}", "nothing was evaluated yet"
    if len(baselines) != 1:
        return "Held-out loss", f"{loss:.3f}", "nats"
    unigram, compared = baselines[0].unigram, newest(run, f"eval/{baselines[0].term}_loss")
    above = (baselines[0].loss if compared is None else compared) - unigram
    beside = f"{abs(above):.3f} {'above' if above > 0 else 'below'} the unigram baseline"
    return "Held-out loss", f"{loss:.3f}", beside


def _quality(run: Told) -> list[tuple[str, str, str]]:
    if (loss := newest(run, "eval/lm_loss")) is not None:
        return [("Perplexity", f"{math.exp(min(loss, 99.0)):,.4g}", "of held-out text")]
    for term, what in (("mlm", "of masked tokens"), ("contrastive", "of pairs")):
        if (hits := newest(run, f"eval/{term}_accuracy")) is not None:
            return [("Accuracy", f"{100 * hits:.1f}%", f"{what}, held out")]
    return []


def _time(run: Told) -> tuple[str, str, str]:
    rates = [v for v in series(run, 0, "throughput/useful_tokens_per_second").values if v]
    rate = f"{human(sorted(rates)[len(rates) // 2])} tokens/s" if rates else ""
    return "Time", duration(run.log.seconds) if run.log.seconds else NONE, rate


def _lengths(run: Told) -> str:
    return ", then ".join(f"{stage['length']:,}" for stage in run.config["stages"])


def _starts(run: Told) -> str:
    count = len(run.log.started)
    return "one start" if count == 1 else f"{count} starts"


def _held_out(run: Told) -> str:
    loss = newest(run, "eval/loss")
    if not run.log.baselines:
        return NONE if loss is None else f"{loss:.4f} nats"
    return "; ".join(
        f"{one.loss:.4f} nats{one.of}, unigram baseline {one.unigram:.4f}" for one in run.log.baselines
    )


def _best(run: Told) -> str:
    keep = run.config.get("checkpoint", {}).get("keep", {})
    metric, sign = keep.get("best_metric", "eval/loss"), -1 if keep.get("best_mode") == "max" else 1
    found = series(run, 0, metric)
    measured = [
        (sign * value, step)
        for step, value in zip(found.steps, found.values, strict=True)
        if value is not None
    ]
    if not measured:
        return NONE
    value, step = min(measured)
    return f"{step:,}, {metric} {sign * value:.4f}"


def _isolation(run: Told) -> str:
    """Of the newest line of every stage and task."""
    lines = list({(line.get("stage"), line.get("task")): line for line in run.isolation}.values())
    if not lines:
        return "not checked"
    largest = max(max(line.get("forward", 0.0), line.get("gradient", 0.0)) for line in lines)
    kernels = " and ".join(dict.fromkeys(name for line in lines for name in line.get("kernels", [])))
    what = "shown" if all(line.get("passed") for line in lines) else "NOT shown: documents see each other"
    within = f"within {largest:.0e}" if largest else "to the bit"
    return f"{what}; packed = alone {within} ({lines[-1].get('dtype')}, {kernels})"


def _stream(run: Told) -> str:
    found = run.meta.get("stream", {})
    if not found.get("hash"):
        return NONE
    return f"{found['hash']} (steps {found.get('since', 0) + 1:,} to {run.saved.get('step', run.step):,})"


def _versions(run: Told) -> str:
    known = versions(run)
    return ", ".join(f"{name} {known[name]}" for name in ("jaxlm", "jax") if name in known) or NONE


def versions(run: Told) -> dict[str, str]:
    """Of the packages, at the last start that noted them."""
    return (run.starts[-1].get("versions") if run.starts else None) or run.meta.get("versions", {})
