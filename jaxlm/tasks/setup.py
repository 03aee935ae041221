"""What is asked of a model that was not fine-tuned for it. In: options. Out: a `Setup`, and the prompts it makes."""

import dataclasses
import string
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxlm.data.corpus import readers
from jaxlm.data.corpus.columns import Wanted
from jaxlm.errors import UserError

Kind = Literal["minimal_pairs", "perplexity", "choice", "completion", "translation", "summarisation"]
Normalise = Literal["none", "tokens", "characters", "unconditional"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """The options of `commands.options.add_untuned`."""

    task: Kind
    pair: tuple[str, str] = ("good", "bad")  # of minimal_pairs: fields; the first should be likelier
    shared: bool = False  # of minimal_pairs: only tokens count that both sentences have
    template: str = "{text}"  # of a prompt; {NAME} is a field
    choices: tuple[str, ...] = ()  # of every item; (): the field "choices" of each
    answer: str = "label"  # field of the right answer: a choice, or its number; of what is written a text
    shots: int = 0  # answered prompts before each
    shots_from: str = ""  # table that they are drawn from
    seed: int = 0  # of that
    normalise: Normalise = "none"  # what a choice's log-probability is divided by, or lessened by
    window: int = 0  # of perplexity: tokens; 0: as many as the model reads, 1024 at most
    stride: int = 0  # of perplexity: tokens between two windows; 0: half a window

    @property
    def fields(self) -> tuple[str, ...]:
        """That the template names."""
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None]
        except ValueError as error:
            raise UserError(
                f"--template={self.template!r}: {error}. Write {{{{ and }}}} for braces."
            ) from error
        if not names or not all(name.isidentifier() for name in names):
            raise UserError(
                f'--template={self.template!r}: it names fields of the table, such as "{{text}}".'
            )
        return tuple(dict.fromkeys(names))

    def prompt(self, texts: Sequence[str]) -> str:
        """Of the texts of the fields."""
        return self.template.format(**dict(zip(self.fields, texts, strict=True)))

    def examples(self) -> str:
        """The answered prompts, an empty line behind each; the same before every item."""
        if not self.shots:
            return ""
        if not self.shots_from:
            raise UserError(
                f"--shots={self.shots}: name the table that they are drawn from: --shots-from=FILE."
            )
        found = [
            (row, where) for where, _, row in readers.rows(self.shots_from, Wanted(self.fields), whole=True)
        ]
        if len(found) < self.shots:
            raise UserError(f"--shots={self.shots}: {self.shots_from} has {len(found)} rows.")
        drawn = np.random.default_rng(self.seed).choice(len(found), self.shots, replace=False)
        return "".join(self._example(*found[k]) for k in drawn)

    def _example(self, row: Mapping[str, Any], where: str) -> str:
        texts = self.texts(row, where)
        right = str(row.get(self.answer, ""))
        if self.task == "choice":
            choices = self.choices or choices_of(row, where)
            right = choices[right_one(row.get(self.answer), choices, where)]
        return f"{self.prompt(texts)} {right}\n\n"

    def texts(self, row: Mapping[str, Any], where: str) -> tuple[str, ...]:
        """Of the fields. UserError for one that is no text."""
        for name in self.fields:
            if not isinstance(row.get(name), str) or not row[name].strip():
                there = ", ".join(map(str, row))
                raise UserError(f'{where}: field "{name}" of --template is no text. Fields there: {there}.')
        return tuple(row[name].strip() for name in self.fields)


def choices_of(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The choices of a row. UserError where there are none."""
    found = row.get("choices")
    if (
        not isinstance(found, list)
        or len(found) < 2
        or not all(isinstance(one, str) and one for one in found)
    ):
        raise UserError(
            f'{where}: field "choices" must be a list of texts. Fix: --choices=A,B, the same for all.'
        )
    return tuple(found)


def right_one(right: Any, choices: Sequence[str], where: str) -> int:
    """Which of the choices is right. UserError for none of them."""
    if isinstance(right, str) and right in choices:
        return choices.index(right)
    place = int(right) if isinstance(right, int) or (isinstance(right, str) and right.isdecimal()) else -1
    if not 0 <= place < len(choices):
        raise UserError(
            f"{where}: the right answer {right!r} is none of the choices ({', '.join(choices)}), nor a number from 0."
        )
    return place
