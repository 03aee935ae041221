"""A smaller vocabulary: the tokens that a text uses. In: a model, a text. Out: the model, its tokenizer and its files.

Guaranteed: a text whose tokens all stay gets the same pieces, and the model makes the same of it; any other text is
written in smaller pieces, or as unknown where no piece fits, as the tokenizer does it with any text.
"""

import dataclasses
import itertools

import numpy as np

from jaxlm.compress.calibration import Calibration
from jaxlm.compress.step import Say, Step, rebuilt
from jaxlm.data.corpus import lines
from jaxlm.data.tokens import trimming
from jaxlm.errors import UserError
from jaxlm.exchange import renumbering
from jaxlm.infer.loaded import Loaded
from jaxlm.models.embed import padded
from jaxlm.models.paths import flatten
from jaxlm.models.values import is_value
from jaxlm.views.view import facts

_LINES = 1024  # tokenised at once


@dataclasses.dataclass(kw_only=True)
class Vocabulary(Step):
    """Special tokens, single characters and bytes stay as well, and of BPE what pieces are merged from."""

    minimum: int  # times that a token occurs in the text to stay; 1: all that it uses
    size: int  # so many of these, the most frequent; 0: all. What stays anyway comes on top

    def validate(self, where: str) -> None:
        """UserError for what no count can be."""
        if self.minimum < 1:
            raise UserError(f"{where}.minimum={self.minimum}: must be 1 or more; 1 keeps all that is used.")
        if self.size < 0:
            raise UserError(f"{where}.size={self.size}: must be 0 (no limit) or more, such as 8000.")

    @property
    def calibrated(self) -> bool:
        """It counts tokens."""
        return True

    def check(self, model: Loaded) -> None:
        """UserError for a tokenizer that cannot lose tokens, or a table that is compressed."""
        renumbering.contents(model.stored, model.tokenizer)
        for path in _axes(model):
            if is_value(flatten(model.params)[path]):
                raise UserError(
                    f"{model.stored.where} holds {path} compressed. Fix: the vocabulary first, then rounding."
                )

    def apply(self, model: Loaded, text: Calibration | None, say: Say) -> Loaded:
        """Counts, cuts, renumbers."""
        self.check(model)
        assert text is not None
        counts_V = counted(model, text.file)
        used, kept = self._kept(model, counts_V)
        ids = {old: new for new, old in enumerate(kept)}
        files, tokenizer = renumbering.tokenizer(model.stored, model.tokenizer, ids)
        config = dataclasses.replace(model.model.config, vocab_size=len(kept))
        made = rebuilt(model, config, _cut(model, kept))
        again = renumbering.settings_files(model.stored, ids)
        stored = dataclasses.replace(
            made.stored, tokenizer=files, remade=again, fingerprint=tokenizer.fingerprint
        )
        total, gone = counts_V.sum(), 1 - counts_V[kept].sum() / counts_V.sum()
        say(
            f"Vocabulary: {model.tokenizer.size:,} -> {len(kept):,} tokens, {used:,} of them chosen by the text; "
            f"{gone:.2%} of its {total:,} tokens go. Of more text like it about {(counts_V == 1).sum() / total:.2%} "
            "are tokens that it does not have (as many as it has once)."
        )
        return dataclasses.replace(made, tokenizer=tokenizer, stored=stored)

    def _kept(self, model: Loaded, counts_V: np.ndarray) -> tuple[int, list[int]]:
        """(how many the text chose, ids of all that stay, in order). UserError where none would go."""
        often = [int(id) for id in np.argsort(-counts_V, kind="stable") if counts_V[id] >= self.minimum]
        often = often[: self.size or None]
        made, size = renumbering.contents(model.stored, model.tokenizer), model.tokenizer.size
        special_V = model.tokenizer.vocabulary.special_V
        ids = trimming.needed(made) | {*often, *np.flatnonzero(special_V).tolist()}
        ids |= renumbering.named(model.stored)
        # Positions are numbered from that of the padding token on.
        ids |= set(range(getattr(model.model.config, "first_position", 0)))
        kept = sorted(id for id in trimming.closed(made, ids) if id < size)
        if len(kept) == model.model.config.vocab_size:
            raise UserError(
                f"All {len(kept):,} tokens would stay. Fix: a larger minimum (--config.steps[0].minimum), or a size "
                "(--config.steps[0].size)."
            )
        return len(often), kept


def counted(model: Loaded, file: str) -> np.ndarray:
    """How often each token occurs in a text; int64. UserError for one that has none.

    Lines count one by one and, of a model that writes, as they follow one another: whichever is more.
    """
    tokenizer, follow = model.tokenizer, model.model.config.kind != "encoder"
    counts_V = np.zeros((2, tokenizer.size), np.int64)
    read = (line for _, line in lines.numbered(file))
    while some := list(itertools.islice(read, _LINES)):
        for way, texts in enumerate(([line.strip() for line in some], ["".join(some)] * follow)):
            ids = [np.zeros(0, np.int32), *tokenizer.encode_batch(texts)]
            counts_V[way] += np.bincount(np.concatenate(ids), minlength=tokenizer.size)
    if not counts_V.any():
        raise UserError(
            f"{file} has no text to count tokens of. Fix: text of the kind that the model will read."
        )
    return counts_V.max(0)


def _axes(model: Loaded) -> dict[str, int]:
    """The dimension that counts tokens, of every array that has one."""
    return {path: one.axes.index("vocab") for path, one in facts(model.model).items() if "vocab" in one.axes}


def _cut(model: Loaded, kept: list[int]) -> dict[str, np.ndarray]:
    """Arrays of these tokens, and zeros up to the padded size."""
    weights, made = flatten(model.params), {}
    for path, axis in _axes(model).items():
        taken = np.take(np.asarray(weights[path]), kept, axis)
        room = [(0, 0)] * taken.ndim
        room[axis] = (0, padded(len(kept)) - len(kept))
        made[path] = np.pad(taken, room)
    return made
