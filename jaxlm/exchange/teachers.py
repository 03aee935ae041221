"""A run's teacher: what it is, and its weights. In: `config.teacher`. Out: a Run that knows its sizes; arrays.

Its weights are read from where they are whenever the run starts: a checkpoint holds their source and fingerprint.
Guaranteed: another teacher is refused, whatever mesh it lies on and whatever dtype it is held in.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxlm.config import Run, remote
from jaxlm.data.places import expanded
from jaxlm.data.tokenizer import Tokenizer
from jaxlm.errors import UserError
from jaxlm.exchange import bases, pairs, starting
from jaxlm.exchange.stored import Stored, is_foreign
from jaxlm.models.paths import flatten, nest
from jaxlm.objectives.multi_task import MultiTask
from jaxlm.run.program import TEACHER, Program, as_dtype, shardings

Say = Callable[[str], None]
Saved = dict[str, str] | None  # source and fingerprint, as a checkpoint has them


def described(run: Run) -> Run:
    """The run with the sizes of its teacher. UserError when that is no model, or cannot teach."""
    if not run.teacher:
        return run if run.teacher_model is None else dataclasses.replace(run, teacher_model=None)
    config = _opened(run.teacher).config
    where = f"config.teacher={run.teacher}"
    for stage in run.stages:
        config.check_row_length(stage.length, where)
    for objective in _pupils(run):
        objective.check_teacher(run.model, config, where)
    if config.vocab_size != run.model.vocab_size:
        raise UserError(
            f"{where} has a vocabulary of {config.vocab_size}, the student one of {run.model.vocab_size}: both read "
            f"the same tokens. Fix: --config.model.vocab_size={config.vocab_size} with the teacher's tokenizer."
        )
    return dataclasses.replace(run, teacher_model=config)


def beside(
    program: Program, frozen: Any, tokenizer: Tokenizer, saved: Saved, where: str, say: Say
) -> tuple[Any, Saved]:
    """(what is frozen with the weights of the teacher, what a checkpoint holds of it); both as given without one.

    UserError when it has another tokenizer, lacks a head, orders its classes otherwise, or is not the one that the
    checkpoint (`where`) learnt from, which is `saved`.
    """
    run = program.run
    if program.teacher is None:
        return frozen, None
    stored = _opened(run.teacher)
    _check(run, stored, program, tokenizer, say)
    float32 = flatten(as_dtype(program.frozen[TEACHER], "float32"))
    weights = stored.place({path: leaf.sharding for path, leaf in float32.items()})
    found = {"source": run.teacher, "fingerprint": bases.fingerprint(nest(weights))}
    if saved is not None and saved["fingerprint"] != found["fingerprint"]:
        raise UserError(
            f"{where} learnt from the teacher {saved['source']} (fingerprint {saved['fingerprint'][:12]}); "
            f"{run.teacher} is another (fingerprint {found['fingerprint'][:12]}). Fix: "
            "--config.teacher=DIR with the right one."
        )
    cast = jax.jit(
        lambda tree: as_dtype(tree, program.teacher.dtype),  # pyright: ignore[reportOptionalMemberAccess]
        out_shardings=shardings(program.frozen[TEACHER]),
        donate_argnums=0,
    )
    say(
        f"teacher            {stored.where}, {program.teacher.dtype}, fingerprint {found['fingerprint'][:12]}"
    )
    return {**frozen, TEACHER: cast(nest(weights))}, found


def _opened(name: str) -> Stored:
    path = name if is_foreign(name) else str(expanded(remote.local(name, "config.teacher")))
    stored = pairs.open_any(path, say=lambda line: None)
    if stored.run is not None and stored.run.view:
        raise UserError(
            f"config.teacher={name} holds what was trained on top of other weights. Fix: merge the two first, "
            f"jaxlm export {name} DIR, then --config.teacher=hf:DIR."
        )
    return stored


def _pupils(run: Run) -> list[Any]:
    """The objectives that compare with the teacher, without what stands around them."""
    tasks = run.objective.tasks if isinstance(run.objective, MultiTask) else ()
    found = []
    for objective in [task.objective for task in tasks] or [run.objective]:
        while objective.needs_teacher and not hasattr(objective, "check_teacher"):
            objective = objective.of
        if objective.needs_teacher:
            found.append(objective)
    return found


def _check(run: Run, stored: Stored, program: Program, tokenizer: Tokenizer, say: Say) -> None:
    name = f"config.teacher={run.teacher}"
    starting.check_tokenizer(stored, run.teacher, name, tokenizer, say)
    lacking = sorted(set(flatten(program.frozen[TEACHER])) - set(stored.shapes))
    if lacking:
        raise UserError(
            f"{name} lacks {', '.join(lacking[:4])}{', ...' if len(lacking) > 4 else ''}, which the objective reads. "
            "Fix: a teacher that was trained on this task."
        )
    theirs = stored.class_names()
    for objective in _pupils(run):
        for head, ours in objective.class_names.items():
            if head in theirs and tuple(theirs[head]) != tuple(ours):
                raise UserError(
                    f"{name} has the classes {tuple(theirs[head])}, the run {tuple(ours)}: the same names in the same "
                    f"order are needed. Fix: labels={tuple(theirs[head])} in the objective inside Distil, where they "
                    "are the same in another order; or another teacher."
                )
