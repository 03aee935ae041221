"""How an answer is looked for. In: settings. Out: a `Search`, which generation obeys and an objective may carry.

Words and values are those of transformers' `generate`, and so are the answers.
"""

import dataclasses
from typing import Any, Literal

from jaxlm.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """The default is greedy. Published: T5 4 beams and 0.6 for translation and summaries; BART 4, no 3-gram twice."""

    beams: int = 1  # texts that are kept beside each other; 1: greedy
    # A finished text's score is its log-probability / tokens^this: 0 none, above 0 longer texts gain
    length_penalty: float = 1.0
    # When to stop: yes, as soon as there are `beams` finished texts; no, when the best text under way, at its length of
    # now, scores below all of them; never, when it does at whatever length
    early_stopping: Literal["no", "yes", "never"] = "no"
    no_repeat_ngram: int = 0  # no n tokens in a row stand twice in a text; 0: off
    min_new_tokens: int = 0  # no answer ends with fewer; 0: off
    n_best: int = 1  # answers to each prompt, best first

    @property
    def needed(self) -> bool:
        """Whether anything differs from taking the likeliest token every time."""
        return self.beams > 1 or self.no_repeat_ngram > 0 or self.min_new_tokens > 0

    def validate(self, where: str = "--") -> None:
        """UserError for the first value that cannot work."""
        allowed = {
            "beams": (1 <= self.beams <= 1024, "1 (greedy) to 1024"),
            "length_penalty": (-10.0 <= self.length_penalty <= 10.0, "-10 to 10; 0: none"),
            "early_stopping": (self.early_stopping in ("no", "yes", "never"), "no, yes, never"),
            "no_repeat_ngram": (0 <= self.no_repeat_ngram <= 1024, "0 (off) to 1024"),
            "min_new_tokens": (self.min_new_tokens >= 0, "0 (off) or more"),
            "n_best": (1 <= self.n_best <= self.beams, f"1 to the number of beams, {self.beams}"),
        }
        for name, (fine, bounds) in allowed.items():
            if not fine:
                shown = name.replace("_", "-") if where == "--" else name
                raise UserError(f"{where}{shown}={getattr(self, name)} is out of range; allowed: {bounds}.")


def given(options: Any) -> dict[str, Any]:
    """Those of a `Search`'s settings that a namespace of options has, and that are not None."""
    names = (field.name for field in dataclasses.fields(Search))
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}
