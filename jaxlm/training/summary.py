"""How a run ends for a person. In: its parts, its journal. Out: how well and how fast it went, what to type next."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

from jaxlm.config import Run, averaged, executed, folder, shown
from jaxlm.convert import families
from jaxlm.errors import UserError
from jaxlm.monitor import metrics as files
from jaxlm.monitor.console import duration, human
from jaxlm.objectives import unigram
from jaxlm.run import inputs
from jaxlm.run.streams import StreamRows
from jaxlm.tasks import of
from jaxlm.training.journal import Journal


def finished(
    parts: Any,
    journal: Journal,
    held_out: Sequence[StreamRows],
    step: int,
    metrics: Mapping[str, float],
    samples: str,
) -> None:
    """Says it: held-out losses beside the unigram baseline, samples, time, the best step, commands."""
    parts.console.doing("comparing")
    read_here = held_out if jax.process_count() == 1 else []
    compared = [line for read in read_here for line in _beside_baseline(parts, read, metrics)]
    parts.console.rest()
    said = [*compared, samples, f"done: {step} steps; run folder {parts.place.shown}", _speed(parts, journal)]
    said += [_best(parts), "what to type next:", *(f"  {command}" for command in commands(parts))]
    parts.console.say("\n".join(filter(None, said)))


def interrupted(parts: Any, journal: Journal, step: int) -> None:
    """Says how far it is, and how it goes on."""
    parts.console.rest()
    said = [
        f"saved at step {step}; the same command continues the run, or:",
        f"  {_command(parts, 'train', '--workdir')}",
    ]
    parts.console.say("\n".join([_speed(parts, journal), *said]))


def commands(parts: Any) -> list[str]:
    """What can be done with the run, one command a line."""
    run: Run = parts.run
    found = []
    if shown.fills_masks(run):
        found.append(_command(parts, "fill_mask", "--run", _example(run.fill, "a [MASK] of tea")))
    if (task := of.kind_of(run)) is not None:
        asked = task.asks(run.data)
        found.append(
            _command(parts, "predict", "--run", "--input=new.jsonl" if len(asked) > 1 else '"a text"')
        )
    elif shown.generates(run):
        found.append(_command(parts, "generate", "--run", _example(run.generate, _beginning(parts))))
    elif run.model.kind in ("encoder", "pair"):
        found.append(_command(parts, "embed", "--run", '"a text" "another text"'))
    if all("test" in splits for stream in parts.text.streams for splits in stream.sources.values()):
        found.append(_command(parts, "evaluate", "--run", "--split=test"))
    root, beside = parts.place.shown, parts.place.root.name if parts.place.url else str(parts.place.root)
    found.append(f"jaxlm report {shlex.quote(root)}")
    if _can_be_exported(run):
        found.append(
            f"jaxlm export {shlex.quote(root)} {shlex.quote(f'{beside}-hf')} --check {_recipe(parts)}".rstrip()
        )
    return found


def _beginning(parts: Any) -> str:
    """Of a text that is to go on; with a gap, for a model that was trained to fill them."""
    sentinels = parts.text.vocabulary.sentinels if parts.run.model.kind == "encoder_decoder" else ()
    return f"Once upon a {parts.text.tokenizer.token(sentinels[0])}" if sentinels else "Once upon a time"


def _command(parts: Any, verb: str, option: str, rest: str = "") -> str:
    words = [f"jaxlm {verb} {option}={shlex.quote(parts.place.shown)}", _recipe(parts), rest]
    return " ".join(filter(None, words))


def _recipe(parts: Any) -> str:
    """What every command needs of a run with classes that are not jaxlm's."""
    recipe = folder.noted(parts.place).recipe if executed.has_own(parts.run) else ""
    return f"--recipe={shlex.quote(recipe)}" if recipe else ""


def _example(texts: Sequence[str], otherwise: str) -> str:
    text = texts[0] if texts else otherwise
    # Quoted for a person, unless the shell would read something in it.
    return shlex.quote(text) if any(sign in text for sign in '"$`\\!') else f'"{text}"'


def _can_be_exported(run: Run) -> bool:
    try:
        families.of_config(run.model)
    except UserError:
        return False
    return True


def _speed(parts: Any, journal: Journal) -> str:
    steps, tokens, rate = journal.trained()
    speed = f", {human(rate)} tokens/s while training" if rate else ""
    return (
        f"time: {duration(parts.console.elapsed_s)} for {steps} steps, {human(tokens)} useful tokens{speed}"
    )


def _best(parts: Any) -> str:
    """The best step of all starts, by the metric that checkpoints are kept for."""
    keep = parts.run.checkpoint.keep
    lines = files.read(parts.place.root) if parts.writer.enabled else []
    first = averaged.final_from(parts.run)
    seen = [line for line in lines if line["step"] >= first and line.get(keep.best_metric) is not None]
    measured = {line["step"]: line for line in seen}
    if not measured:
        return ""
    best = min(measured, key=lambda step: keep.score(measured[step]))
    return f"best: step {best}, {keep.best_metric} {measured[best][keep.best_metric]:.4f}"


def _beside_baseline(parts: Any, read: StreamRows, metrics: Mapping[str, float]) -> Iterator[str]:
    """The held-out loss of a task that predicts tokens, and that of a model that knows only how frequent they are."""
    term = read.stream.objective.token_term
    loss = metrics.get("/".join(filter(None, ("eval", read.source, read.stream.task.of(f"{term}_loss")))))
    if loss is None:
        return
    counts = unigram.counts(read.stream.sources[read.source]["train"], parts.text.vocabulary.size)
    batches = inputs.evaluation_batches(parts.run, parts.text, [read])
    asked = (one.targets.tokens for batch in batches for one in batch.values())
    baseline = unigram.unigram_cross_entropy(counts, asked, parts.text.vocabulary.special_V)
    named = {"mlm": "masked-LM", "lm": "LM"}.get(term, term)
    of = f" of task {read.stream.name}" if read.stream.name else ""
    of += f" on {read.source}" if read.source else ""
    yield f"held-out {named} loss{of} {loss:.4f} nats; unigram cross-entropy of the same tokens {baseline:.4f} nats"
    yield beside(loss, baseline)


def beside(loss: float, baseline: float) -> str:
    """Where a model is."""
    where = "above" if loss > baseline else "below"
    return f"the model is {abs(baseline - loss):.4f} nats per predicted token {where} the unigram baseline"
