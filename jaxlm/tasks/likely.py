"""What a pre-trained model finds likely. In: a decoder, or a masked language model. Out: `Task`s.

The log-probability of a text is a sum over its tokens, natural logarithm, behind what a text of the model begins with
(BOS); of a masked language model the pseudo-log-likelihood.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxlm.data.corpus.columns import Wanted
from jaxlm.data.corpus.record import Record
from jaxlm.errors import UserError
from jaxlm.evaluate.classes import resampled
from jaxlm.infer import likelihood
from jaxlm.infer.loaded import Loaded
from jaxlm.tasks.setup import Setup
from jaxlm.tasks.task import Item, Measured, Task, Values

_WINDOW = 1024


class Preferring(Task):
    """The likelier of two sentences (BLiMP: Warstadt et al., 1912.00582; CrowS-Pairs: Nangia et al., 2010.00133)."""

    does, columns, metrics = "prefers one of two sentences", ("log_p", "preferred"), ("accuracy",)

    def __init__(self, model: Loaded, setup: Setup) -> None:
        self.model, self._shared = model, setup.shared
        self.fields = self.labels = setup.pair

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Log-probabilities, [2]."""
        tokens = _tokens(self.model, [text for item in items for text in item])
        pairs = zip(tokens[::2], tokens[1::2], strict=True)
        return [np.array([log_p.sum() for log_p in self._counted(*pair)]) for pair in pairs]

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """The likelier one, by the name of its field; the second where they are equally likely."""
        return [{"log_p": one.tolist(), "preferred": self.fields[int(one[0] <= one[1])]} for one in asked]

    def wanted(self) -> Wanted:
        """Both sentences; that the first is to be preferred stands nowhere."""
        return Wanted(self.fields)

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """How often the first is likelier."""
        log_p_N2 = np.stack(asked)
        hits_N = log_p_N2[:, 0] > log_p_N2[:, 1]
        metrics = resampled(len(records), lambda items: {"accuracy": float(hits_N[items].mean())})
        return Measured(
            items=len(records), metrics=metrics, faults=(log_p_N2[:, 1] - log_p_N2[:, 0]).tolist()
        )

    def _counted(self, one: tuple, other: tuple) -> tuple[np.ndarray, np.ndarray]:
        (a, log_a), (b, log_b) = one, other
        if not self._shared:
            return log_a, log_b
        same = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
        at = lambda first: [block[first] + k for block in same for k in range(block.size)]
        return log_a[at(0)], log_b[at(1)]


class Perplexity(Task):
    """How well a text is foreseen, in windows that overlap: each token once, from those before it in its window."""

    does, columns, whole_files = "foresees texts", ("log_p", "tokens", "perplexity"), True
    metrics = ("perplexity", "bits_per_byte", "nll")

    def __init__(self, model: Loaded, setup: Setup) -> None:
        self.model = model
        self._window = setup.window or min(model.row_length, _WINDOW)
        if self._window < 2:
            raise UserError(
                f"--window={self._window}: two tokens or more, one of which is scored from the other."
            )
        # Each window scores behind a token of the one before.
        self._stride = min(setup.stride or self._window // 2, self._window - 1)

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """(log-probability, tokens, bytes) of every window, [W, 3]; the bytes of a text are shared by its tokens."""
        texts = [text for (text,) in items]
        if self.model.model.config.kind == "encoder":
            found = [[(log_p.sum(), len(log_p))] for _, log_p in likelihood.masked(self.model, texts)]
        else:
            found = self._windows(texts)
        return [_with_bytes(np.array(one, np.float64), text) for one, text in zip(found, texts, strict=True)]

    def _windows(self, texts: Sequence[str]) -> list[list[tuple[float, int]]]:
        start, encode = likelihood.before(self.model), self.model.tokenizer.encode_marked
        ids = [[*start, *encode(text)] for text in texts]
        places = [likelihood.windows(len(one), self._window, self._stride) for one in ids]
        rows = [one[a:b] for one, of in zip(ids, places, strict=True) for a, b, _ in of]
        scored = iter(likelihood.followed(self.model, rows))
        return [
            [
                (float(next(scored).log_p[first - a - 1 :].sum(dtype=np.float64)), b - first)
                for a, b, first in of
            ]
            for of in places
        ]

    def answer(self, items: Sequence[Item], asked: Sequence[Any]) -> list[Values]:
        """Of every text."""
        sums = [one.sum(axis=0) for one in asked]
        return [
            {"log_p": log_p, "tokens": int(tokens), "perplexity": float(np.exp(-log_p / max(tokens, 1)))}
            for log_p, tokens, _ in sums
        ]

    def wanted(self) -> Wanted:
        """The text."""
        return Wanted(self.fields)

    def measure(self, records: Sequence[Record], answers: Sequence[Values], asked: Sequence[Any]) -> Measured:
        """Over all tokens; intervals are bootstrapped over windows."""
        windows_W3 = np.concatenate(asked)
        faults = [-answer["log_p"] / max(answer["tokens"], 1) for answer in answers]
        metrics = resampled(len(windows_W3), lambda items: _foreseen(*windows_W3[items].sum(axis=0)))
        return Measured(items=len(records), metrics=metrics, faults=faults)


def _foreseen(log_p: float, tokens: float, size: float) -> dict[str, float]:
    nll = -log_p / tokens
    return {
        "perplexity": float(np.exp(nll)),
        "bits_per_byte": float(-log_p / np.log(2) / size),
        "nll": float(nll),
    }


def _with_bytes(windows_W2: np.ndarray, text: str) -> np.ndarray:
    share_W1 = windows_W2[:, 1:] / max(windows_W2[:, 1].sum(), 1)
    return np.concatenate([windows_W2, len(text.encode()) * share_W1], axis=1)


def _tokens(model: Loaded, texts: Sequence[str]) -> list[tuple[list[int], np.ndarray]]:
    """(ids, log-probability of each) of every text."""
    if model.model.config.kind == "encoder":
        return likelihood.masked(model, texts)
    start = likelihood.before(model)
    rows = [[*start, *model.tokenizer.encode_marked(text)] for text in texts]
    # Without a token before it the first has no log-probability.
    return [
        (row[max(len(start), 1) :], one.log_p[max(len(start) - 1, 0) :])
        for row, one in zip(rows, likelihood.followed(model, rows), strict=True)
    ]
