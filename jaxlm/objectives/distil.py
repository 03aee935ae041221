"""Distillation: a student learns what a frozen teacher says of the rows. In: an objective. Out: its loss and terms.

    soft = SoftTargets(weight=0.5, temperature=2.0, direction="forward", positions="targets")
    objective = Distil(of=objective, hard=0.5, terms=(soft,))
    teacher = "hf:DIR"

The teacher (`config.teacher`) reads the batch without dropout, at the places where the student is read; what it says is
never kept, nor written. Evaluation is that of the objective inside, and needs no teacher. What is compared are
`Term`s: soft targets (here), hidden states, attention and vectors (distil_layers.py).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from jaxlm.batch import Array, Batch, Loss, Pair
from jaxlm.errors import UserError
from jaxlm.models import observed, taught
from jaxlm.models.heads import Head
from jaxlm.objectives.divergence import Divergence
from jaxlm.objectives.masked_lm import MaskedLM
from jaxlm.objectives.objective import Objective
from jaxlm.objectives.predictions import Predictions
from jaxlm.objectives.targets import TokenTargets
from jaxlm.objectives.wrapped import Wrapped, check_at_least, check_one_pass, refuse_pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passes:
    """What student and teacher made of one batch."""

    objective: Objective
    batch: Batch
    key: Array
    student: Any  # bound
    teacher: Any
    said: Predictions  # by the student
    taught: Predictions

    def layers(self, name: str) -> tuple[Array, Array]:
        """[L, ...] of the student and of the teacher, see models.observed. UserError where none are handed on."""
        found = [one.layers for one in (self.said, self.taught)]
        if not all(isinstance(one, Mapping | tuple) for one in found):
            raise UserError(
                f"config.objective.terms: {type(self.objective.inner).__name__} hands on no layers. Fix: SoftTargets, "
                "which compares what it says."
            )
        of = lambda one: (
            jnp.concatenate([part[name] for part in one]) if isinstance(one, tuple) else one[name]
        )
        return of(found[0]), of(found[1])


@dataclasses.dataclass(kw_only=True)
class Term:
    """One thing that is compared. Its terms of the loss are named after what it returns, and weigh `weight`."""

    reads: ClassVar[tuple[str, ...]] = ()  # of every layer, see models.observed

    weight: float  # of its terms in the loss

    def validate(self, where: str) -> None:
        """UserError for a weight that is none."""
        check_at_least(self, where, 0.0, "weight")

    def check(self, objective: Objective, student: Any, teacher: Any, where: str) -> None:
        """UserError where these two (configs) cannot be compared."""

    def heads(self, config: Any) -> Mapping[str, Head]:
        """What it needs on top of the student, for training alone."""
        return {}

    def weights(self, objective: Objective, batch: Batch) -> dict[str, Array]:
        """What each of its terms weighs over this batch, from the data alone."""
        raise NotImplementedError

    def compared(self, passes: Passes) -> dict[str, Pair]:
        """(sum, weight) of each of its terms, before `weight`."""
        raise NotImplementedError


@dataclasses.dataclass(kw_only=True)
class SoftTargets(Term):
    """What the teacher says of every slot, softened (Hinton et al., 1503.02531): classes, labels, answers, tokens.

    Classes and tokens by a softmax, several labels by a sigmoid each, answers over the tokens of their window; numbers
    by their squared difference, where the temperature is of no matter.
    """

    temperature: float  # of both; published: 1 to 20 (Hinton), 2 (DistilBERT), 1 (TinyBERT)
    # forward: KL(teacher, student), which covers all that the teacher says; reverse: KL(student, teacher) (MiniLLM)
    direction: Literal["forward", "reverse"]
    # targets: where the objective asks; all: of masked LM at every token, as DistilBERT's code has it
    positions: Literal["targets", "all"]

    def validate(self, where: str) -> None:
        """UserError, too, for a temperature that is none."""
        super().validate(where)
        if not 0.0 < self.temperature < float("inf"):
            raise UserError(f"{where}.temperature={self.temperature}: must be above 0 (published: 1 to 20).")

    def check(self, objective: Objective, student: Any, teacher: Any, where: str) -> None:
        """UserError for every token where tokens are not what is asked about."""
        if self.positions == "all" and type(objective.inner) is not MaskedLM:
            raise UserError(
                f'{where}.positions="all" is of MaskedLM, and the objective is {type(objective.inner).__name__}. Fix: '
                'positions="targets".'
            )

    def weights(self, objective: Objective, batch: Batch) -> dict[str, Array]:
        """What the loss itself weighs without weights of classes: items, or tokens."""
        if self.positions == "all":
            return {"mlm_soft": (batch.segments_BT > 0).sum().astype(jnp.float32)}
        return {f"{name}_soft": weight for name, weight in objective.inner.weights(batch).items()}

    def compared(self, passes: Passes) -> dict[str, Pair]:
        """Terms `..._soft`. UserError where there is nothing."""
        apart = Divergence(temperature=self.temperature, direction=self.direction)
        said = passes.said
        if self.positions == "all":
            real_BT = (passes.batch.segments_BT > 0).astype(jnp.float32)
            said = Predictions({"mlm": dataclasses.replace(said["mlm"], weights_BM=real_BT)})
        found = passes.objective.towards(said, passes.taught, passes.batch, apart)
        if not found:
            raise UserError(
                f"config.objective.terms: {type(passes.objective.inner).__name__} has no classes, tokens or numbers "
                "that two models could agree on. Fix: a term that compares layers, such as HiddenStates."
            )
        return {f"{name}_soft": pair for name, pair in found.items()}


@dataclasses.dataclass(kw_only=True)
class Distil(Wrapped):
    """`hard` times the loss of the objective inside, and every term times its weight."""

    one_pass = False
    needs_teacher = True

    hard: float  # of the objective's own loss; published: 2 of 5 + 2 + 1 (DistilBERT), 0 (TinyBERT, unlabelled texts)
    terms: tuple[Any, ...]  # what is compared: SoftTargets, HiddenStates, AttentionScores, Relations, Vectors

    def validate(self, where: str) -> None:
        """UserError for no terms, two of one kind, or what cannot be asked twice."""
        check_at_least(self, where, 0.0, "hard")
        names = [type(term).__name__ for term in self.terms]
        wrong = [term for term in self.terms if not isinstance(term, Term)]
        if wrong or not names or len(set(names)) < len(names):
            raise UserError(
                f"{where}.terms={tuple(names)}: one or more of SoftTargets(...), HiddenStates(...), "
                "AttentionScores(...), Relations(...), Vectors(...), each once."
            )
        check_one_pass(self, where)

    def check_model(self, model: Any, where: str) -> None:
        """A generator and a discriminator are no student."""
        refuse_pairs(self, model, where)
        super().check_model(model, where)

    def heads(self, config: Any) -> Mapping[str, Head]:
        """Those inside, and what terms need in training."""
        own = {name: head for term in self.terms for name, head in term.heads(config).items()}
        return {**self.of.heads(config), **own}

    def check_teacher(self, student: Any, teacher: Any, where: str) -> None:
        """UserError when a model of the config `teacher` (at key path `where`) cannot teach the student."""
        self.of.check_model(teacher, where)
        for i, term in enumerate(self.terms):
            term.check(self.of, student, teacher, f"config.objective.terms[{i}]")

    def weights(self, batch: Batch) -> dict[str, Array]:
        """Those inside, and those of the terms."""
        made = dict(self.of.weights(batch))
        for term in self.terms:
            made |= term.weights(self.of, batch)
        return made

    def loss(self, model: Any, batch: Batch, key: Array | None) -> Loss:
        """Terms of the objective inside, and of what is compared; an evaluation is that of the objective inside."""
        if key is None:
            return self.of.loss(taught.alone(model), batch, key)
        teacher = getattr(model, "teacher", None)
        if teacher is None:
            raise UserError(
                "config.objective compares with a teacher. Fix: --config.teacher=hf:DIR, or a run folder."
            )
        student = taught.alone(model)
        if any(getattr(term, "positions", "") == "all" for term in self.terms):
            batch = dataclasses.replace(batch, targets=in_place(batch.targets, batch.tokens_BT.shape[1]))
        with observed.asking(*{name for term in self.terms for name in term.reads}):
            said, of_teacher = self.of.predict(student, batch, key), self.of.predict(teacher, batch, None)
        inside = self.of.score(said, batch)
        passes = Passes(
            objective=self.of,
            batch=batch,
            key=key,
            student=student,
            teacher=teacher,
            said=said,
            taught=of_teacher,
        )
        terms, shown = {}, {}
        for term in self.terms:
            for name, (total, weight) in term.compared(passes).items():
                terms[name], shown[name] = (term.weight * total, weight), (total, weight)
        hard = {
            name: (self.hard * total, weight) for name, (total, weight) in inside.terms.items() if self.hard
        }
        return Loss({**hard, **terms, **said.terms}, {**inside.measures, **shown, **said.terms})


def in_place(targets: TokenTargets, length: int) -> TokenTargets:
    """The same targets, at every position of a row."""
    assert targets.places_BM is not None
    at = (jnp.arange(len(targets.ids_BM))[:, None], targets.places_BM)
    empty_BT = jnp.zeros((len(targets.ids_BM), length), jnp.float32)
    weights_BT = empty_BT.at[at].add(targets.weights_BM)
    ids_BT = empty_BT.astype(jnp.int32).at[at].add(jnp.where(targets.weights_BM > 0, targets.ids_BM, 0))
    return TokenTargets(ids_BM=ids_BT, weights_BM=weights_BT)
