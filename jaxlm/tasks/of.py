"""The task of a model. In: a `Loaded`. Out: a `Task`: what it was fine-tuned for, or what its kind does."""

from typing import Any

from jaxlm.config import Run
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.predict import Predictor
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.tagging import Tagging
from jaxlm.objectives.wrapped import Wrapped
from jaxlm.tasks import foreign, untrained
from jaxlm.tasks.classification import Classifying
from jaxlm.tasks.tagging import Finding
from jaxlm.tasks.task import Task, Trained

_TASKS: dict[type, type[Trained]] = {  # the class of an objective, or one that it derives from
    Classification: Classifying,
    Tagging: Finding,
}


def of(model: Loaded, *, max_new_tokens: int) -> Task:
    """`max_new_tokens`: the longest answer of a model that writes."""
    run = model.stored.run
    found = foreign.of(model) if run is None else of_run(model, run)
    return found or untrained.of(model, max_new_tokens=max_new_tokens)


def of_run(model: Predictor, run: Run) -> Trained | None:
    """What a run is fine-tuned for, whatever stands around its objective; None: for no task."""
    objective: Any = run.objective
    while isinstance(objective, Wrapped):
        objective = objective.of
    kind = next((_TASKS[one] for one in type(objective).__mro__ if one in _TASKS), None)
    return kind and kind(model, run.data, objective)
