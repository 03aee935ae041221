"""The task of a model. In: a `Loaded`. Out: a `Task`: what it was fine-tuned for, or what its kind does."""

import argparse
import dataclasses
import pathlib
import re
from collections.abc import Sequence

from jaxlm.config import Run
from jaxlm.errors import UserError
from jaxlm.infer import adapters, loaded
from jaxlm.infer.loaded import Loaded
from jaxlm.infer.predict import Predictor
from jaxlm.objectives import search
from jaxlm.objectives.classification import Classification
from jaxlm.objectives.crf import CrfTagging
from jaxlm.objectives.multi_label import MultiLabel
from jaxlm.objectives.multiple_choice import MultipleChoice
from jaxlm.objectives.question_answering import QuestionAnswering
from jaxlm.objectives.regression import Regression
from jaxlm.objectives.relations import Relations
from jaxlm.objectives.similarity import Similarity
from jaxlm.objectives.tagging import Tagging
from jaxlm.objectives.translation import Summarisation, Translation
from jaxlm.tasks import foreign, untrained
from jaxlm.tasks.by_adapter import ByAdapter
from jaxlm.tasks.classification import Choosing, Classifying
from jaxlm.tasks.ensemble import Ensemble
from jaxlm.tasks.in_context import Completing, Picking
from jaxlm.tasks.label_sets import LabelSets
from jaxlm.tasks.likely import Perplexity, Preferring
from jaxlm.tasks.question_answering import Answering
from jaxlm.tasks.relations import Relating
from jaxlm.tasks.scores import Comparing, Scoring
from jaxlm.tasks.setup import Setup
from jaxlm.tasks.tagging import Chaining, Finding
from jaxlm.tasks.task import Task, Trained
from jaxlm.tasks.translation import Summarising, Translating

_TASKS: dict[type, type[Trained]] = {  # the class of an objective, or one that it derives from
    Classification: Classifying,
    QuestionAnswering: Answering,
    Tagging: Finding,
    CrfTagging: Chaining,
    MultiLabel: LabelSets,
    MultipleChoice: Choosing,
    Relations: Relating,
    Regression: Scoring,
    Similarity: Comparing,
    Translation: Translating,
    Summarisation: Summarising,
}


def of(
    model: Loaded, *, max_new_tokens: int, setup: Setup | None = None, fields: tuple[str, ...] = ()
) -> Task:
    """`max_new_tokens`: the longest answer of a model that writes; `setup`: what is asked of it, whatever it is for;
    `fields`: what the texts of an item are called, of a folder that does not say it."""
    if setup is not None:
        return _set_up(model, setup, max_new_tokens)
    run = model.stored.run
    found = foreign.of(model, fields) if run is None else of_run(model, run)
    return found or untrained.of(model, max_new_tokens=max_new_tokens)


def _set_up(model: Loaded, setup: Setup, max_new_tokens: int) -> Task:
    match setup.task:
        case "minimal_pairs":
            return Preferring(model, setup)
        case "perplexity":
            return Perplexity(model, setup)
        case "choice":
            return Picking(model, setup)
        case _:
            return Completing(model, setup, max_new_tokens)


def by_adapter(model: Loaded, *, max_new_tokens: int, field: str = "adapter") -> ByAdapter:
    """Of a model with adapters: what each does with the rows that name it in their `field`."""
    each = {name: dataclasses.replace(model, stored=one) for name, one in model.adapters.items()}
    tasks = {name: of(one, max_new_tokens=max_new_tokens) for name, one in each.items()}
    return ByAdapter(model, tasks, field)


def of_options(options: argparse.Namespace) -> Task:
    """What the options of `commands.options.add_model` say; of several runs what they say together."""
    if options.adapter:
        others = ("more", "task", "weights", "vote", "temperature", "threshold", "base")
        if name := first_given(options, (*others, *search.given(options))):
            raise UserError(f"--adapter is of one --run, the base of all: leave {name} out.")
        model = adapters.of_options(options)
        return by_adapter(model, max_new_tokens=options.max_new_tokens, field=options.adapter_field)
    tasks = [_of_place(place, options) for place in (options.run, *options.more)]
    if len(tasks) > 1:
        return Ensemble(tasks, options.weights, vote=options.vote)
    if options.weights or options.vote:
        raise UserError(
            "--weights and --vote are of several runs: name another with --run, or leave them out."
        )
    return tasks[0]


def named(place: str, step: int | None) -> tuple[str, int | None]:
    """(RUN, N) of RUN@N; (place, step) of any other."""
    found = re.fullmatch(r"(.+)@(\d+)", place)
    if found is None or pathlib.Path(place).expanduser().exists():
        return place, step
    return found[1], int(found[2])


def _of_place(place: str, options: argparse.Namespace) -> Task:
    run, step = named(place, options.step)
    one = argparse.Namespace(**{**vars(options), "run": run, "step": step})
    names = [field.name for field in dataclasses.fields(Setup)]
    setup = Setup(**{name: getattr(options, name) for name in names}) if options.task else None
    how = {"max_new_tokens": options.max_new_tokens, "setup": setup, "fields": options.text_field}
    made = of(loaded.of_options(one), **how)
    for name in ("temperature", "threshold"):
        if (value := getattr(options, name)) is not None:
            made.decide(**{name: value})
    if searching := search.given(options):
        made.look(**searching)
    return made


def of_run(model: Predictor, run: Run) -> Trained | None:
    """What a run is fine-tuned for, whatever stands around its objective; None: for no task."""
    kind = kind_of(run)
    return kind and kind(model, run.data, run.objective.inner)


def kind_of(run: Run) -> type[Trained] | None:
    """The class of that."""
    objective = getattr(run.objective, "inner", None)  # which several tasks have not
    return next((_TASKS[one] for one in type(objective).__mro__ if one in _TASKS), None)


def first_given(options: argparse.Namespace, names: Sequence[str]) -> str:
    """The first of these options that was given, as it is typed; "": none."""
    values = ((name, getattr(options, name)) for name in names)
    given = [
        name
        for name, value in values
        if value is not None and value is not False and value not in ("", [], ())
    ]
    return "" if not given else "a second --run" if given[0] == "more" else f"--{given[0].replace('_', '-')}"
