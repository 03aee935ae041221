"""What the rows of slots hold, and the calls of the programs that change it. In: answers under way. Out: tokens chosen.

A row keeps what it has read after its answer ends. Of a prompt that begins alike, those pieces are copied: pieces of
the same size at the same places, made by the same program, so that nothing differs from reading them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.infer import predict, sampling
from jaxlm.infer import slot_programs as programs
from jaxlm.infer.generate import sources
from jaxlm.infer.predict import Predictor
from jaxlm.infer.row_sampling import Asked, Chosen, Vocabulary
from jaxlm.infer.sampling import Sampling
from jaxlm.models import row_cache, several
from jaxlm.objectives.frame import Frame

# ids, log-probabilities, and of each id the likeliest with theirs
Tokens = tuple[list[int], list[float], list[list[tuple[int, float]]]]


class Answer(Protocol):
    """A request under way, as far as rows know it."""

    prompt: list[int]  # what the decoder reads, framed
    source: list[int]  # of an encoder-decoder
    asked: Asked
    which: int  # number of its adapter
    row: int
    read: int  # tokens of the prompt that the row holds
    ids: list[int]  # tokens of the answer


@dataclasses.dataclass
class _Row:
    """What stands in a row's first slots: pieces of a prompt, behind a source and with an adapter."""

    pieces: tuple[int, ...] = ()
    key: tuple[tuple[int, ...], int] | None = None  # source, number of the adapter; None: nothing has begun


class Engine:
    """The rows of one model, and of a draft if there is one; see `slots.Slots` for what is what."""

    reused = 0  # tokens of prompts that were copied and not computed

    def __init__(
        self,
        loaded: Sequence[Predictor],
        frame: Frame,
        *,
        rows: int,
        room: int,
        source_room: int,
        piece: int,
        guesses: int,
        int8: bool,
        likeliest: int,
    ) -> None:
        check(loaded, rows=rows, room=room, piece=piece, guesses=guesses)
        models = [one.by_layer for one in loaded]
        self._models, self._frame, self._guesses, self._int8 = models, frame, guesses, int8
        # Prompts whose tokens see each other cannot be cut.
        self._piece = predict.size(room) if frame.prefix else min(piece, predict.size(room))
        self._sizes = sorted({min(predict.size(n), self._piece) for n in range(1, self._piece + 1)})
        self._likeliest = likeliest
        self._source_room = predict.size(source_room) if frame.encoder_decoder else 0
        tokenizer = models[0].tokenizer
        known_V = None if tokenizer is None else sampling.known(tokenizer)
        self._ids = Vocabulary(known_V=known_V, stops=np.array(frame.stops or (-1,), np.int32))
        with jax.set_mesh(models[0].mesh):
            start = self._start([0])
            self._fronts = [programs.front(m.model, self._params(m, [0]), start) for m in models]
            # Behind what is written, the last piece of a prompt is padded, and guesses may be wrong.
            behind = max(self._piece, guesses + 1)
            shape: dict[str, Any] = {"rows": rows, "source": self._source_room, "int8": int8}
            slots = [row_cache.slots_for(room + front, behind) for front in self._fronts]
            self._caches = [
                programs.empty(m.model, self._params(m, [0]), start, room=room, **shape)
                for m, room in zip(models, slots, strict=True)
            ]
            unseen = programs.unseen(models[0].model, self._params(models[0], [0]), start, rows)
        self._seen_RV, self._unseen_1V = jnp.asarray(unseen), unseen[:1]
        self._copies = _doubled(self._piece, room)
        self._rows = [_Row() for _ in range(rows)]
        self._nothing = Asked.of(Sampling(), seed=0)

    def begin(self, answer: Answer, free: Sequence[int]) -> None:
        """Gives an answer one of the free rows, with what can be taken over of its prompt."""
        key = (tuple(answer.source), answer.which)
        whole = 0 if self._frame.prefix else (len(answer.prompt) - 1) // self._piece * self._piece
        wanted = tuple(answer.prompt[:whole])
        alike = [
            _common(row.pieces, wanted) // self._piece * self._piece if row.key == key else 0
            for row in self._rows
        ]
        # A free row that has most of it; else the one that loses least.
        best = max(range(len(alike)), key=lambda row: (alike[row], row in free))
        size = alike[best]
        row = best if best in free and size else min(free, key=lambda r: len(self._rows[r].pieces))
        with jax.set_mesh(self._models[0].mesh):
            if self._rows[row].key != key:
                self._begin(row, answer.source, answer.which)
            if row != best and size:
                self._copy(best, row, size)
        self._rows[row] = _Row(wanted[:size], key)
        answer.row = row
        answer.read = size
        self.reused += size

    def read(self, answer: Answer) -> Tokens | None:
        """One more piece of a prompt; behind its last the first token."""
        prompt = answer.prompt
        part = prompt[answer.read : answer.read + self._piece]
        end = answer.read + len(part)
        first = (answer.asked, prompt) if end == len(prompt) else None
        with jax.set_mesh(self._models[0].mesh):
            chosen = self._read(answer.row, answer.read, part, answer.which, first)
        answer.read = end
        if chosen is not None:
            return _told([chosen], 0, 1)
        self._rows[answer.row].pieces = tuple(prompt[:end])
        return None

    def step(self, answers: Sequence[Answer]) -> list[Tokens]:
        """The next tokens of these answers."""
        rows = len(self._rows)
        used_R, last_R, which_R = np.full(rows, -1, np.int32), np.zeros(rows, np.int32), [0] * rows
        asked = [self._nothing] * rows
        for answer in answers:
            used_R[answer.row] = len(answer.prompt) + len(answer.ids) - 1
            last_R[answer.row], which_R[answer.row] = answer.ids[-1], answer.which
            asked[answer.row] = answer.asked.ahead(np.int32(len(answer.ids)))
        with jax.set_mesh(self._models[0].mesh):
            chosen, tokens_RT = self._step(used_R, last_R, asked, which_R)
        right = lambda row: 1 + _common([int(c.token_R[row]) for c in chosen], tokens_RT[row, 1:].tolist())
        return [_told(chosen, answer.row, right(answer.row)) for answer in answers]

    def compile(self) -> None:
        """Runs every program once, on rows that are free."""
        rows = len(self._rows)
        with jax.set_mesh(self._models[0].mesh):
            for size in [s for s in _doubled(16, self._source_room) if s] or [0]:
                self._begin(0, [0] * size, 0)
            for size in self._sizes:
                self._read(0, 0, [0] * size, 0, (self._nothing, []))
            self._read(0, 0, [0] * self._piece, 0, None)
            for slots in self._copies:
                self._copy(0, rows - 1, slots)
            self._step(
                np.full(rows, -1, np.int32), np.zeros(rows, np.int32), [self._nothing] * rows, [0] * rows
            )
        self._rows = [_Row() for _ in self._rows]

    def _begin(self, row: int, source: Sequence[int], which: int) -> None:
        """What stands before a text."""
        if not self._frame.encoder_decoder and not any(self._fronts):
            return
        for i, m in enumerate(self._models):
            self._caches[i] = programs.begin(
                m.model,
                self._params(m, [which]),
                self._caches[i],
                np.int32(row),
                self._start(source),
                int8=self._int8,
            )

    def _copy(self, source: int, target: int, tokens: int) -> None:
        for i, front in enumerate(self._fronts):
            slots = next(size for size in self._copies if size >= tokens) + front
            self._caches[i] = programs.copy(self._caches[i], np.int32(source), np.int32(target), slots=slots)

    def _read(
        self, row: int, at: int, part: Sequence[int], which: int, first: tuple[Asked, Sequence[int]] | None
    ) -> Chosen | None:
        """A piece of a prompt; `first`: what is asked for behind it, and the whole prompt."""
        size = next(size for size in self._sizes if size >= len(part))
        tokens_1T = np.zeros((1, size if first else self._piece), np.int32)
        tokens_1T[0, : len(part)] = part
        logits = []
        for i, (m, front) in enumerate(zip(self._models, self._fronts, strict=True)):
            piece = programs.Piece(
                row=np.int32(row), used=np.int32(front + at), tokens_1T=tokens_1T, length=np.int32(len(part))
            )
            given = (m.model, self._params(m, [which]), self._caches[i], piece, np.int32(front))
            how = {"prefix": self._frame.prefix, "last": first is not None and i == 0}
            self._caches[i], logits_1V = programs.read(*given, **how)
            logits.append(logits_1V)
        return None if first is None else self._first(row, logits[0], *first)

    def _first(self, row: int, logits_1V: Any, asked: Asked, prompt: Sequence[int]) -> Chosen:
        seen_1V = self._unseen_1V
        if asked.penalty_R[0] != 1:
            seen_1V = seen_1V.copy()
            seen_1V[0, list(prompt)] = True
        given = (logits_1V, self._seen_RV, seen_1V, np.int32(row), asked, self._ids)
        self._seen_RV, chosen = programs.first(*given, likeliest=self._likeliest)
        return jax.device_get(chosen)

    def _step(
        self, used_R: np.ndarray, last_R: np.ndarray, asked: Sequence[Asked], which: Sequence[int]
    ) -> tuple[list[Chosen], np.ndarray]:
        """What is chosen behind the last token of every row and behind each guess, and these tokens_RT."""
        tokens_RT: Any = last_R[:, None]
        together = jax.tree.map(lambda *rows: np.concatenate(rows), *asked)

        def given(i: int) -> tuple:
            m, front = self._models[i], self._fronts[i]
            used = np.where(used_R < 0, -1, used_R + front).astype(np.int32)
            rows = programs.Rows(used_R=used, front=np.int32(front), tokens_RT=tokens_RT, asked=together)
            return m.model, self._params(m, which), self._caches[i], rows

        if len(self._models) > 1:
            how = {"number": self._guesses}
            self._caches[1], tokens_RT = programs.guess(*given(1), self._ids, self._seen_RV, **how)
        now = given(0)
        self._caches[0], logits_RTV = programs.step(*now)
        chosen = (logits_RTV, self._seen_RV, now[-1], self._ids)
        self._seen_RV, chosen = programs.following(*chosen, likeliest=self._likeliest)
        return jax.device_get((chosen, tokens_RT))

    def _start(self, source: Sequence[int]) -> Batch:
        """What a text begins with."""
        if self._frame.encoder_decoder:
            return sources([source], self._frame)
        zero = np.zeros((1, 1), np.int32)
        return Batch(tokens_BT=zero, segments_BT=zero + 1, positions_BT=zero)

    def _params(self, m: Predictor, which: Sequence[int]) -> Any:
        """The weights for rows of these adapters."""
        return (
            several.chosen(m.params, np.array(which, np.int32)) if getattr(m, "adapters", None) else m.params
        )


def check(models: Sequence[Predictor], *, rows: int, room: int, piece: int, guesses: int) -> None:
    """UserError for what cannot be."""
    for name, value in {"rows": rows, "room": room, "piece": piece}.items():
        if value < 1:
            raise UserError(f"{name}={value}: must be at least 1.")
    if models[0].mesh.size > 1:
        raise UserError(
            f"slots run on one device, and the model was loaded on {models[0].mesh.size}. Fix: --mesh.data=1."
        )
    for draft in models[1:]:
        if guesses < 1:
            raise UserError(f"guesses={guesses}: a draft guesses at least 1 token.")
        _check_draft(models[0], draft)


def _check_draft(model: Predictor, draft: Predictor) -> None:
    kinds = [m.model.config.kind for m in (model, draft)]
    if kinds[0] != kinds[1]:
        raise UserError(
            f"the draft is of the kind {kinds[1]}, and the model of the kind {kinds[0]}: take one alike."
        )
    sizes = [m.model.config.vocab_size for m in (model, draft)]
    pieces = [m.tokenizer.pieces if m.tokenizer else None for m in (model, draft)]
    if sizes[0] != sizes[1] or pieces[0] != pieces[1]:
        raise UserError(
            f"the draft has another tokenizer ({sizes[1]} tokens, the model {sizes[0]}), so its tokens mean something "
            "else. Fix: a draft that was trained with the tokenizer of the model."
        )


def _told(chosen: Sequence[Chosen], row: int, number: int) -> Tokens:
    """Of one row the first `number` places."""
    some = chosen[:number]
    best = [zip(c.likeliest_RK[row].tolist(), c.likeliest_log_p_RK[row].tolist(), strict=True) for c in some]
    return (
        [int(c.token_R[row]) for c in some],
        [float(c.log_p_R[row]) for c in some],
        [list(pairs) for pairs in best],
    )


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many they begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _doubled(first: int, most: int) -> list[int]:
    """first, twice that, ... up to `most`."""
    sizes = [min(first, most)]
    while sizes[-1] < most:
        sizes.append(min(2 * sizes[-1], most))
    return sizes
