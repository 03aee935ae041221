"""Several objectives in one run, over one corpus or several. In: a batch per task. Out: the weighted sum of losses.

What a step trains is always a `MultiTask`: the objective of a run of one is its only task, named "" (`of`).

Every global batch holds `rows` rows of each task, so which rows a step sees is a function of the step alone. A term of
a task is divided by its own weight over the whole batch before it is multiplied with the task's `weight`: rows decide
how much of the compute a task gets, `weight` how much its mean loss counts.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxlm.batch import Array, Batches, Loss, Vocabulary
from jaxlm.errors import UserError
from jaxlm.models.heads import Head
from jaxlm.objectives.frame import Frame


@dataclasses.dataclass(kw_only=True)
class Task:
    """One of the objectives of a run."""

    name: str  # of its metrics: train/<name>/mlm_loss, eval/<name>/mlm_loss
    objective: Any  # what is trained, such as MaskedLM
    weight: float  # of its loss in the sum that is minimised
    rows: int  # of every global batch
    data: Any = None  # a config.Data of its own; None: the run's. The tokenizer is the run's in any case

    def of(self, metric: str) -> str:
        """`mlm_loss` of this task: `<task>/mlm_loss`, or `mlm_loss` of a run of one objective."""
        return f"{self.name}/{metric}" if self.name else metric

    def validate(self, where: str) -> None:
        """UserError for a name that cannot be part of a metric's, or numbers that cannot work."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise UserError(
                f"{where}.name={self.name!r}: allowed are lower-case letters, digits and _, such as 'order'; it "
                "becomes part of the names of metrics."
            )
        if not 0.0 < self.weight < float("inf"):
            raise UserError(
                f"{where}.weight={self.weight}: must be above 0 (1: as if it were trained alone)."
            )
        if self.rows < 1:
            raise UserError(
                f"{where}.rows={self.rows}: must be at least 1. Leave the task out if it has none."
            )
        if isinstance(self.objective, MultiTask):
            raise UserError(f"{where}.objective is itself a MultiTask: list its tasks here instead.")


@dataclasses.dataclass(kw_only=True)
class MultiTask:
    """The tasks share the model; each uses the heads its objective asks for."""

    tasks: tuple[Task, ...]  # two or more, trained in the same steps

    @property
    def needs_average(self) -> bool:
        """Whether a task compares with the average of the weights."""
        return any(task.objective.needs_average for task in self.tasks)

    @property
    def needs_teacher(self) -> bool:
        """Whether a task compares with a teacher."""
        return any(task.objective.needs_teacher for task in self.tasks)

    def validate(self, where: str) -> None:
        """At least one task, no name twice; the tasks check themselves."""
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) != len(names):
            raise UserError(f"{where}.tasks are named {names}: at least one, and every name once.")

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Those of all tasks. UserError when two mean different heads by one name."""
        return self._together({task.name: task.objective.heads(config) for task in self.tasks})

    def teacher_heads(self, config: Any) -> Mapping[str, Head]:
        """Those of all tasks that compare with a teacher."""
        taught = [task for task in self.tasks if task.objective.needs_teacher]
        return self._together({task.name: task.objective.teacher_heads(config) for task in taught})

    def _together(self, heads: Mapping[str, Mapping[str, Head]]) -> Mapping[str, Head]:
        found: dict[str, Head] = {}
        for task, own in heads.items():
            for name, head in own.items():
                if found.setdefault(name, head) != head:
                    raise UserError(
                        f"The task {task} has {head} as its head {name!r}, another task has {found[name]}. Fix: "
                        "other names in `heads` of the objectives."
                    )
        return found

    def check_model(self, model: Any, where: str) -> None:
        """Every task must be able to train it."""
        for task in self.tasks:
            task.objective.check_model(model, where)
        self.heads(model)

    def check_view(self, view: Sequence[Any], where: str) -> None:
        """Every task must find in it what it reads."""
        for task in self.tasks:
            task.objective.check_view(view, where)

    def check_batch(self, batch_size: int, accumulate: int, where: str) -> None:
        """The rows of the tasks make up a batch, and every micro-batch has its share of each task."""
        rows = {task.name: task.rows for task in self.tasks}
        if sum(rows.values()) != batch_size:
            listed = " + ".join(f"{number} ({name})" for name, number in rows.items())
            raise UserError(
                f"{where}.batch_size={batch_size}: the rows of the tasks are {listed} = {sum(rows.values())}. Fix: "
                f"--{where}.batch_size={sum(rows.values())}, or other --{where}.objective.tasks[i].rows."
            )
        for i, task in enumerate(self.tasks):
            if task.rows % accumulate:
                raise UserError(
                    f"{where}.objective.tasks[{i}].rows={task.rows} must be divisible by "
                    f"{where}.accumulate={accumulate}: every micro-batch holds rows of every task."
                )
            task.objective.check_batch(task.rows, accumulate, where)

    def weights(self, batch: Batches) -> dict[str, Array]:
        """The weights of all terms, as `task/term`."""
        return {
            task.of(term): weight
            for task in self.tasks
            if task.name in batch
            for term, weight in task.objective.weights(batch[task.name]).items()
        }

    def loss(self, model: Any, batch: Batches, key: Array | None) -> Loss:
        """The terms, times the weight of their task, and measures of the tasks in the batch, as `task/term`.

        A batch holds all tasks in training, one in evaluation.
        """
        terms, measures = {}, {}
        for number, task in enumerate(self.tasks):
            if task.name not in batch:
                continue
            own = jax.random.fold_in(key, number) if key is not None and task.name else key
            loss = task.objective.loss(model, batch[task.name], own)
            terms |= {task.of(k): (task.weight * total, w) for k, (total, w) in loss.terms.items()}
            measures |= {task.of(k): pair for k, pair in loss.measures.items()}
        return Loss(terms, measures)

    def frame(self, vocabulary: Vocabulary) -> Frame:
        """Of the first task that generates. UserError when none does."""
        generating = [task.objective for task in self.tasks if task.objective.token_term == "lm"]
        return (generating or [self.tasks[0].objective])[0].frame(vocabulary)


def of(objective: Any, rows: int) -> MultiTask:
    """What a step trains: the tasks as they are, or one objective as the task "" with all `rows` of a batch."""
    if isinstance(objective, MultiTask):
        return objective
    return MultiTask(tasks=(Task(name="", objective=objective, weight=1.0, rows=rows),))
