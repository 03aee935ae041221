"""The run, top to bottom: config, mesh, data, model, objective, state, sharded step, loop, checkpoints, evaluation.

    jaxlm train bert_base [--config.KEY=VALUE ...] [--workdir=DIR]     (also: python -m jaxlm.train --config=bert_base)

The same command line continues an interrupted run, to the same bits; so does --workdir=DIR alone. Exit codes: 0 done,
75 saved and resumable, 70 numerical failure, 78 the configuration or the input is wrong.
"""

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from jaxlm import entry

# Imports stand in the functions: the processes that tokenise import this module too, and do without JAX.
if TYPE_CHECKING:
    from jaxlm.config.flags import Command
    from jaxlm.runtime.signals import EndingAtOnce
    from jaxlm.training.loop import Outcome


def main(argv: Sequence[str]) -> int:
    """Parses the command line, then explains the run or trains it."""
    from jaxlm.runtime import signals

    with signals.EndingAtOnce() as early:
        from jaxlm.config import flags
        from jaxlm.exchange import unsaid

        command = unsaid.parse(argv)
        if command.explain:
            print(flags.explain(command.run, command.overrides, command.source))
            return 0
        return train(command, early).code


def train(command: "Command", early: "EndingAtOnce | None" = None) -> "Outcome":
    """Trains, or continues, one run. `early` handles signals until the loop does; None: the process is not ours."""
    import jax

    from jaxlm.checkpoint import space
    from jaxlm.config import executed, folder, tree
    from jaxlm.data.places import default_cache
    from jaxlm.errors import EXIT_DONE, UserError
    from jaxlm.exchange import bases, starting, teachers, tokenizer_files
    from jaxlm.monitor.console import Console
    from jaxlm.monitor.metrics import Writer
    from jaxlm.partition import mesh as meshes
    from jaxlm.run import inputs, inventory, seen, streams
    from jaxlm.run.program import Program
    from jaxlm.runtime import compilation, distributed, roll_call, signals, watchdog
    from jaxlm.training import excluded, foreseen, mirrored, preview, record, samples
    from jaxlm.training.loop import Loop, Outcome, Parts

    # ------------------------------------------------------------------------------------------ process and folder
    run = command.run
    distributed.start()
    is_main = distributed.is_main()
    place, allow = folder.RunFolder(command.workdir, command.url), command.allow_config_change
    scope = contextlib.ExitStack()
    scope.enter_context(folder.disk_errors(place))
    with scope:
        following = mirrored.opened(scope, place, changes=not command.preflight)
        place = following.place
        with distributed.ending_together(), folder.disk_errors(place):
            folder.check_free(place)
            console = Console(None if command.preflight else place.root, enabled=is_main)
            scope.callback(console.close)
            run = teachers.described(inventory.filled(run, console.say, folder.moved(place)))
            console.total_steps = run.steps
            if is_main and not command.preflight:
                scope.enter_context(folder.lock(place, console.say))
            changes = folder.changes(place, run, allow_config_change=allow)
        scope.enter_context(roll_call.answering(console.say))
        scope.enter_context(distributed.ending_when_a_peer_is_lost(console.say))
        console.say(f"jaxlm: {command.words}")
        if command.note:
            console.say(command.note)
        for change in changes:
            console.say(f"changed since the last start:{change}")
        code = executed.of_classes(run) if command.code is None else command.code
        for line in folder.noted(place).changes(code):
            console.say(f"changed since the last start: {line}")
        compilation.enable(default_cache(), console.say)

        # --------------------------------------------------------------------------------------------------- mesh
        mesh = meshes.make(run.mesh)
        streams.check_rows(run, mesh)
        scope.enter_context(jax.set_mesh(mesh))

        # ----------------------------------- model, optimizer, state: shapes first, nothing ever lives unsharded
        program = Program.of(run, mesh)

        # --------------------------------------------------------------------------------------------------- data
        bytes_needed = space.state_bytes(program.state) // following.disks
        with distributed.ending_together():
            if not place.has_checkpoints():
                if run.init_from:
                    starting.check(run, console.say)
                foreseen.check(program)
                space.check_space(place.checkpoints, bytes_needed, run.checkpoint.keep)
            text = inputs.text(run, console.say, following.hosts)
            samples.check(run, text)
        if command.preflight:
            state, frozen = program.start(bases.parameters(program, text.tokenizer, console.say))
            frozen, _ = teachers.beside(program, frozen, text.tokenizer, None, "", console.say)
            parts = preview.Parts(run=run, place=place, text=text, program=program, console=console)
            preview.show(parts, state, frozen)
            return Outcome(code=EXIT_DONE, step=0, metrics={})

        # --------------------------------------------------------------------------------------------- checkpoints
        saving = run.checkpoint
        checkpoints = following.checkpoints(saving.keep, say=console.say, check=saving.check)
        scope.callback(checkpoints.close)
        present = len(checkpoints.steps())
        space.check_space(place.checkpoints, bytes_needed, run.checkpoint.keep, present=present)
        with distributed.ending_together():
            if is_main or following.disks > 1:
                excluded.go_back(checkpoints, run, console.say)
        start = checkpoints.newest_intact()
        meta, where = None, f"the checkpoint of step {start}"
        if start is None and place.has_checkpoints():
            raise UserError(
                f"No checkpoint in {place.checkpoints} is intact, see above. Fix: put a good copy back, or remove that "
                "folder to start anew."
            )
        if start is None:
            state, frozen = program.start(bases.parameters(program, text.tokenizer, console.say))
            base = bases.Base.of(run).seen(frozen)
        else:
            saved = checkpoints.meta(start).get("config", {})
            folder.check_checkpoint(place, start, saved, run, allow_config_change=allow)
            state, meta = checkpoints.restore(start, program.state)
            frozen, base = bases.frozen(program, text.tokenizer, meta.get("base"), where, console.say)
        of_teacher = (meta or {}).get("teacher")
        frozen, teacher = teachers.beside(program, frozen, text.tokenizer, of_teacher, where, console.say)
        if start is not None:
            checkpoints.discard_after(start)
            console.say(f"resumed from {where}")

        # ---------------------------------------------------------------------------------------------------- loop
        writer = Writer(
            place.root,
            enabled=is_main,
            wandb=run.logging.wandb,
            config=tree.to_json(run),
            say=console.say,
        )
        scope.enter_context(writer)
        with distributed.ending_together(), folder.disk_errors(place):
            if is_main:
                folder.claim(place, run, code)
                record.start(place, command, start or 0, console.say)
                if start is None:
                    seen.keep(text, place.stream)
                place.tokenizer.mkdir(exist_ok=True)
                text.tokenizer.save(place.tokenizer)
                tokenizer_files.keep(run.tokenizer, text.tokenizer, place.tokenizer)
            writer.resume(start or 0, (meta or {}).get("metrics_file"))
        exit_now = signals.interrupt if early is None else os._exit
        stop = scope.enter_context(signals.StopRequest(say=console.say, exit_now=exit_now))
        if early is not None:
            early.hand_over()
        dog = watchdog.Watchdog(place.root, minutes=run.logging.watchdog_minutes, say=console.say)
        scope.enter_context(dog)
        parts = Parts(
            run=run,
            place=place,
            text=text,
            program=program,
            frozen=frozen,
            base=base,
            teacher=teacher,
            checkpoints=checkpoints,
            console=console,
            writer=writer,
            stop=stop,
            watchdog=dog,
        )
        with distributed.ending_when_a_peer_is_lost(
            console.say
        ):  # before anything above is closed, which may wait
            return Loop(parts, state, start=start or 0, meta=meta).run()


def run() -> NoReturn:
    """The command itself: the process ends with its exit code."""
    from jaxlm.monitor.preflight import smaller

    entry.run(
        main,
        when_out_of_memory=f"{smaller()} The table at the start of a stage says what a step needs.",
    )


if __name__ == "__main__":
    run()
