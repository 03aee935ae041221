"""The training loop. In: the parts of a run and its state. Out: a trained run folder and an exit code.

Per step the host hands over a batch and looks at measures that are two steps old: it never waits for the step it just
dispatched, and a transfer that nobody asked for is an error (a CPU sees only those to the devices). Log lines,
evaluations, checkpoints and the end of the run happen at step boundaries, in this order, so that what stands in
metrics.jsonl never runs ahead of, nor falls behind, the checkpoint it is resumed from.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxlm.batch import Batches
from jaxlm.checkpoint.policy import AGREE_EVERY, SaveClock
from jaxlm.checkpoint.store import Checkpoints
from jaxlm.config import Stage
from jaxlm.config.traced import traced
from jaxlm.errors import EXIT_DONE, EXIT_RESUMABLE
from jaxlm.evaluate.early_stopping import EarlyStopping
from jaxlm.evaluate.evaluator import Evaluator, HeldOutLoss, Measuring, Ready
from jaxlm.exchange.bases import Base
from jaxlm.monitor.hardware import peak_flops
from jaxlm.monitor.metrics import Writer
from jaxlm.monitor.profile import Trace
from jaxlm.run import inputs
from jaxlm.run.attested import Attested
from jaxlm.run.step import TrainState
from jaxlm.run.streams import Feeds, StreamRows
from jaxlm.runtime import device_memory, distributed, fault
from jaxlm.runtime.signals import StopRequest
from jaxlm.runtime.watchdog import Watchdog
from jaxlm.training import compiled, plan, report, samples, summary
from jaxlm.training.journal import Journal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts(compiled.Parts):
    """What train.py put together."""

    frozen: Any  # what the view leaves as it is
    base: Base  # where that comes from
    teacher: dict[str, str] | None  # where that comes from, if there is one
    checkpoints: Checkpoints
    writer: Writer
    stop: StopRequest
    watchdog: Watchdog


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    code: int  # the exit code: 0 done, 75 saved and resumable
    step: int  # batches consumed
    metrics: dict[str, float]  # of the last evaluation in this start


class Loop:
    """One start of a run: from step `start` to the end, or to the moment it is asked to stop."""

    def __init__(self, parts: Parts, state: TrainState, *, start: int, meta: dict | None) -> None:
        self.parts, self.run_config, self.state, self.start = parts, parts.run, state, start
        self.journal = Journal(
            parts.writer,
            parts.console,
            every_steps=self.run_config.logging.every_steps,
            forecast=plan.forecast(parts, start),
        )
        self.early = EarlyStopping(self.run_config.checkpoint.keep, self.run_config.evaluation.patience)
        self.clock = SaveClock(
            every_steps=self.run_config.checkpoint.every_steps,
            every_minutes=self.run_config.checkpoint.every_minutes,
            agree=distributed.agree if jax.process_count() > 1 else None,
        )
        self.trace = Trace(
            traced(self.run_config.profile, self.run_config.steps, "config.profile"),
            parts.place.profile,
            settle=lambda: jax.block_until_ready(self.state),
            say=parts.console.say,
        )
        limit = self.run_config.time_limit_minutes
        self.deadline = time.monotonic() + 60.0 * limit if limit else None
        self.latest_metrics: dict[str, float] = {}
        self.attested = Attested(meta, start)
        self.samples = ""  # of the last evaluation
        self.fingerprints: dict[str, str] = {"tokenizer": parts.text.tokenizer.fingerprint}
        if meta is not None:
            self.journal.restore(meta["meter"])
            self.early.restore(meta["early_stopping"], say=parts.console.say)
            self.saved_fingerprints = meta["fingerprints"]
            report.check_same(self.saved_fingerprints, self.fingerprints)
        else:
            self.saved_fingerprints = {}

    def run(self) -> Outcome:
        """Trains the stages that are left."""
        self.trace.resume(self.start)
        with contextlib.closing(self.trace):
            code = self._stages()
        return Outcome(code=code, step=int(self.state.step), metrics=self.latest_metrics)

    def _stages(self) -> int:
        step = self.start
        if step >= self.run_config.steps or self.early.over:
            why = f"stopped early ({self.early})" if self.early.over else "all its steps are trained"
            self.parts.console.say(f"the run is complete at step {step}: {why}")
            return EXIT_DONE
        for number, (first, last) in enumerate(self.run_config.stage_steps()):
            if step >= last:
                continue
            code = self._stage(self.run_config.stages[number], number, first, last, step)
            if code is not None:
                return code
            step = last
        return EXIT_DONE

    # ------------------------------------------------------------------------------------------------------- stages

    def _stage(self, stage: Stage, number: int, first: int, last: int, step: int) -> int | None:
        """Trains one stage; an exit code ends the run."""
        parts, run = self.parts, self.run_config
        self.journal.begins(number)
        rows = inputs.rows(run, parts.text, stage, "train", number=number)
        held_out = inputs.rows(run, parts.text, stage, "validation")
        self.held_out_rows = held_out
        mine = {k: v for r in rows for k, v in r.fingerprint(f"stage {number} rows").items()}
        mine |= {k: v for r in held_out for k, v in r.fingerprint(f"stage {number} held-out rows").items()}
        report.check_same(self.saved_fingerprints, mine)
        self.fingerprints |= mine
        taken = self.attested.taking(number, first, step)
        with inputs.train_feed(parts.text, rows, parts.program.mesh, start=step - first, taken=taken) as feed:
            batch = feed.peek()
            if run.show_batch and step == self.start and jax.process_count() == 1:
                parts.console.say(report.shown(batch, parts.text.tokenizer.token, run.show_batch))
            self.evaluators = self._started(stage, held_out)
            train_step = self._compile(rows, batch, report.Span(stage, number, first, last, step))
            del batch  # it would stay on the devices
            while step < last:
                step += 1
                with self.trace.step(step), jax.transfer_guard("disallow"):
                    self._step(train_step, feed, step)
                    self._check_finite(step, first, rows)
                    fault.at("after_step", step)
                    parts.watchdog.beat(step)
                code = self._after(step)
                if code is not None:
                    return code
        return None

    def _step(self, train_step: Callable[..., tuple], feed: Feeds, step: int) -> None:
        batch = next(feed)
        self.journal.waited(feed.wait_s)
        fault.at("before_step", step)
        batch = _poisoned(batch) if fault.nan(step) else batch
        self.state, measures = train_step(self.state, self.parts.frozen, batch)
        self.journal.step(step, device_memory.settled(measures))

    def _compile(
        self, rows: tuple[StreamRows, ...], batch: Batches, span: report.Span
    ) -> Callable[[TrainState, Any, Batches], tuple]:
        """The compiled step of a stage; says the preflight table and starts the clock."""
        step, facts = compiled.step(self.parts, self.state, self.parts.frozen, rows, batch, span)
        peak = peak_flops(jax.devices()[0].device_kind)
        total_peak = peak * jax.device_count() if peak else None
        held_out = sum(len(read.rows) for read in self.held_out_rows) * span.stage.length
        self.journal.start_clock(facts.flops_per_step or 0.0, total_peak, held_out=held_out)
        return step

    def _started(self, stage: Stage, rows: tuple[StreamRows, ...]) -> Sequence[tuple[int, Measuring]]:
        """Every evaluator of the run with its cadence."""
        parts, own = self.parts, self.run_config.evaluation
        ready = Ready(
            program=parts.program,
            text=parts.text,
            frozen=parts.frozen,
            stage=stage,
            split="validation",
            rows=rows,
        )
        every: tuple[Evaluator, ...] = (HeldOutLoss(rows=own.rows), *self.run_config.evaluators)
        started = [(one.every_steps or own.every_steps, one.start(ready)) for one in every]
        self.early.check([name for _, one in started for name in one.names])
        return started

    # ---------------------------------------------------------------------------------------------- between steps

    def _after(self, step: int) -> int | None:
        """Evaluation, checkpoint, stopping: whatever is due after `step`."""
        run = self.run_config
        stopping = self.parts.stop.reached(step) or self._out_of_time(step)
        done = step == run.steps
        best = False
        if due := [one for every, one in self.evaluators if done or step % every == 0]:
            best = self._evaluate(step, due) and run.checkpoint.keep.best > 0
        patience_over = self.early.over and not done
        if done or stopping or best or patience_over or self.clock.due(step):
            self._save(step, final=done or stopping or patience_over)
        if patience_over:
            self.parts.console.say(f"stopped early: {self.early}")
        if done or patience_over:
            shown = self.samples or samples.keep(self.parts, self._weights, step)
            summary.finished(
                self.parts, self.journal, self.held_out_rows, step, self.latest_metrics, samples=shown
            )
            return EXIT_DONE
        if stopping:
            summary.interrupted(self.parts, self.journal, step)
            return EXIT_RESUMABLE
        return None

    def _evaluate(self, step: int, due: Sequence[Measuring]) -> bool:
        """Evaluates and logs; whether this is the best so far."""
        fault.at("evaluate", step)
        lines = self.journal.drain()
        started = time.perf_counter()
        with self.journal.excluded("evaluation"):
            weights = self._weights
            self.latest_metrics = {name: value for one in due for name, value in one(weights).items()}
            if self.run_config.evaluation.samples:
                self.samples = samples.keep(self.parts, weights, step)
        better = self.early.update(step, self.latest_metrics)
        shown = {**self.latest_metrics, "time/evaluation_s": time.perf_counter() - started}
        self.journal.evaluated(step, lines, shown, last=step == self.run_config.steps or self.early.over)
        self.parts.console.say(report.evaluation_line(step, self.latest_metrics))
        return better

    @property
    def _weights(self) -> Any:
        """What is evaluated."""
        return self.parts.program.evaluated(self.state)

    def _save(self, step: int, *, final: bool) -> None:
        """Everything measured up to `step` is on disk before the checkpoint is. All hosts save, or none does."""
        self.journal.catch_up()
        with self.journal.excluded("save"):
            written = distributed.agree(self.journal.flush())
            if not final and (self.journal.last("skipped_in_a_row") or not written):
                why = "its loss or gradient is not finite" if written else "its metrics cannot be written yet"
                self.parts.console.say(f"WARNING: no checkpoint of step {step}: {why}")
                return
            meta = {
                "meter": self.journal.state(),
                "metrics_file": self.journal.written(),
                "early_stopping": self.early.state(),
                "fingerprints": self.fingerprints,
                "examples": step * self.run_config.batch_size,
                "stream": self.attested.state(),
                "base": dataclasses.asdict(self.parts.base),
                **({"teacher": self.parts.teacher} if self.parts.teacher else {}),
                **report.provenance(self.run_config),
            }
            at_evaluation = self.early.evaluated_at == step
            metrics = self.latest_metrics if at_evaluation else None
            self.parts.checkpoints.save(step, self.state, meta, metrics, final=final)
        self.clock.saved()

    def _out_of_time(self, step: int) -> bool:
        if self.deadline is None:
            return False
        over = time.monotonic() >= self.deadline
        if jax.process_count() == 1:
            return over
        return step % AGREE_EVERY == 0 and distributed.agree(over)

    def _check_finite(self, step: int, first: int, rows: tuple[StreamRows, ...]) -> None:
        """Ends the run when too many steps in a row were not finite, naming the rows they read."""
        in_a_row = int(self.journal.last("skipped_in_a_row") or 0)
        if in_a_row < self.run_config.non_finite_limit:
            return
        good = self.journal.read_to - in_a_row  # the last step that changed the weights
        bad = range(good, step)  # and what was dispatched since it was read
        path = report.dump_rows(self.parts, rows, [s - first for s in bad if s >= first], step)
        # Its weights failed on so many batches that they are what is wrong: going on from them would fail for ever.
        aside = "".join(f"; {s} is now {s}.diverged" for s in self.parts.checkpoints.set_aside_from(good))
        raise report.diverged(self.parts, in_a_row, self.journal.read_to, str(path), aside)


def _poisoned(batch: Batches) -> Batches:
    """The batch with weights that are NaN (fault injection)."""
    poison = lambda x: x * jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else x
    return jax.jit(lambda batch: jax.tree.map(poison, batch))(batch)
