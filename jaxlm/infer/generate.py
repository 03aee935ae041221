"""Text generation. In: prompts and a `Predictor` (decoder or encoder-decoder). Out: what it writes, and why it ended.

Prompts of unequal length go in one batch, left-padded; their length is rounded up to a few sizes, so that programs are
compiled once. Guaranteed: greedy tokens are those of the full computation without a cache; the same seed gives the same
text, whatever else is in the batch; a prompt that is too long is refused by name.
"""

import bisect
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxlm.batch import Batch
from jaxlm.errors import UserError
from jaxlm.infer import beam, decode, predict
from jaxlm.infer.frame import Frame
from jaxlm.infer.predict import Predictor
from jaxlm.infer.sampling import Sampling
from jaxlm.models.build import Model
from jaxlm.objectives.search import Search

Reason = Literal["stop token", "stop text", "length", "positions"]
# Tokens between two looks of the host: often enough to read along, rarely enough not to slow the loop.
_CHUNK = 16


@dataclasses.dataclass(frozen=True)
class Written:
    """One row's tokens, a stop token included; log-probabilities are the model's own, at temperature 1."""

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    reason: Reason


@dataclasses.dataclass(frozen=True)
class Found(Written):
    """What a search found. The score: log-probability of all tokens / tokens^length_penalty; -inf: there is no text."""

    score: float


@dataclasses.dataclass(frozen=True)
class Speed:
    """Real tokens and seconds of both programs, compiling left out."""

    prefill_tokens: int
    prefill_s: float
    decode_tokens: int
    decode_s: float

    def __str__(self) -> str:
        """One line."""
        rate = lambda tokens, seconds: (
            f"{tokens / max(seconds, 1e-9):,.0f} tokens/s ({tokens} in {seconds:.2f} s)"
        )
        line = f"prefill {rate(self.prefill_tokens, self.prefill_s)}"
        return line + (f", decode {rate(self.decode_tokens, self.decode_s)}" if self.decode_tokens else "")


# Sees every row's tokens so far; returns the numbers of rows that are to end.
Watch = Callable[[list[list[int]]], set[int]]


def generate(
    predictor: Predictor,
    prompts: Sequence[Sequence[int]],
    frame: Frame,
    *,
    new_tokens: int,
    sampling: Sampling,
    seed: int,
    known_V: np.ndarray | None = None,
    watch: Watch | None = None,
    int8: bool = False,
    first: int = 0,
) -> tuple[list[Written], Speed]:
    """Continues prompts of ids (those of `frame` are added here), or answers them if the model has an encoder.

    `known_V` (bool) marks the ids that stand for a token; None: all that the model has. `int8`: the cache holds keys
    and values so. `first`: the number of the first prompt among all, by which each draws.
    Raises UserError for a prompt that is empty or longer than the model's positions.
    """
    texts, limits = framed(predictor.model.config, prompts, frame, new_tokens=new_tokens, first=first)
    if not texts:
        return [], Speed(0, 0.0, 0, 0.0)
    with jax.set_mesh(predictor.mesh):
        rows = _rows(predictor, texts, limits, frame, seed, known_V, first)
        params = predictor.by_layer.params_of(range(len(texts)), len(rows.limit_B))
        state, prefill_s = _timed(
            decode.prefill,
            predictor.model,
            params,
            rows,
            room=predict.size(new_tokens),
            sampling=sampling,
            prefix=frame.prefix,
            int8=int8,
        )
        asked = (predictor.model, params, rows)
        state, stopped, decode_s = _go_on(asked, state, len(texts), new_tokens, sampling, watch)
    written = _written(state, _usual(limits, new_tokens), stopped, frame)
    read = sum(map(len, texts))
    return written, Speed(read, prefill_s, sum(len(w.tokens) for w in written) - len(texts), decode_s)


def search(
    predictor: Predictor,
    prompts: Sequence[Sequence[int]],
    frame: Frame,
    *,
    new_tokens: int,
    how: Search,
    known_V: np.ndarray | None = None,
    int8: bool = False,
    first: int = 0,
) -> tuple[list[list[Found]], Speed]:
    """Of every prompt the best `how.n_best` texts by beam search, the best first; otherwise as `generate`."""
    texts, limits = framed(predictor.model.config, prompts, frame, new_tokens=new_tokens, first=first)
    if not texts:
        return [], Speed(0, 0.0, 0, 0.0)
    with jax.set_mesh(predictor.mesh):
        rows = _rows(predictor, texts, limits, frame, 0, known_V)
        params = predictor.by_layer.params_of(range(len(texts)), len(rows.limit_B))
        asked = (predictor.model, params, rows)
        room = predict.size(new_tokens)
        settings = {"room": room, "search": how, "prefix": frame.prefix, "int8": int8}
        state, prefill_s = _timed(beam.prefill, *asked, **settings)
        state, decode_s = _timed(beam.decode, *asked, state, search=how)
        tokens, log_p, scores = jax.device_get(
            (state.found.tokens_BCN, state.found.log_p_BCN, state.found.score_BC)
        )
    found = []
    for row, reason in enumerate(_usual(limits, new_tokens)):
        best = zip(*(a[row, : how.n_best] for a in (tokens, log_p, scores)), strict=True)
        found.append([Found(*_text(t, p, reason, frame), score=float(s)) for t, p, s in best])
    decoded = sum(len(one.tokens) for several in found for one in several) - len(texts)
    return found, Speed(sum(map(len, texts)), prefill_s, max(decoded, 0), decode_s)


def framed(
    config: Any, prompts: Sequence[Sequence[int]], frame: Frame, *, new_tokens: int, first: int = 0
) -> tuple[list[list[int]], list[int]]:
    """The prompts in their frame, and how many tokens may be chosen for each. UserError for what cannot be read."""
    if new_tokens < 1:
        raise UserError(f"--max-new-tokens={new_tokens}: must be at least 1.")
    texts = [[*frame.before, *prompt, *frame.after] for prompt in prompts]
    return texts, [_limit(config, text, i, frame, new_tokens) for i, text in enumerate(texts, first)]


def _rows(
    predictor: Predictor,
    texts: Sequence[Sequence[int]],
    limits: Sequence[int],
    frame: Frame,
    seed: int,
    known_V: np.ndarray | None,
    first: int = 0,
) -> decode.Prompts:
    """The texts on the devices; behind them the last one again, for one token, where those are to share evenly."""
    more = predictor.height(len(texts)) - len(texts)
    texts, limits = [*texts, *[texts[-1]] * more], [*limits, *[1] * more]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), first + np.arange(len(texts)))
    return decode.Prompts(
        batch=predictor.split(sources(texts, frame) if frame.encoder_decoder else _left_padded(texts)),
        limit_B=predictor.split(np.array(limits, np.int32)),
        stops=np.array(frame.stops or (decode.NONE,), np.int32),
        key_B=predictor.split(keys),
        known_V=known_V,
        begun=np.int32(max(len(frame.start) - 1, 0)),
    )


def _usual(limits: Sequence[int], new_tokens: int) -> list[Reason]:
    """Why a text of each row ends, unless something stops it."""
    return ["length" if limit == new_tokens else "positions" for limit in limits]


def _written(state: decode.State, usual: Sequence[Reason], stopped: set[int], frame: Frame) -> list[Written]:
    """Every row's tokens, and why they end: `usual`, unless something stopped them."""
    tokens, log_p = jax.device_get((state.tokens_BN, state.log_p_BN))
    return [
        Written(*_text(tokens[row], log_p[row], "stop text" if row in stopped else reason, frame))
        for row, reason in enumerate(usual)
    ]


def _text(
    tokens_N: np.ndarray, log_p_N: np.ndarray, reason: Reason, frame: Frame
) -> tuple[tuple[int, ...], tuple[float, ...], Reason]:
    """The fields of a `Written`."""
    tokens = tuple(tokens_N[tokens_N != decode.NONE].tolist())
    stopped = tokens and tokens[-1] in frame.stops
    return tokens, tuple(log_p_N[: len(tokens)].tolist()), "stop token" if stopped else reason


def _go_on(
    asked: tuple[Model, Any, decode.Prompts],
    state: decode.State,
    texts: int,
    new_tokens: int,
    sampling: Sampling,
    watch: Watch | None,
) -> tuple[decode.State, set[int], float]:
    """The loop, in chunks if somebody watches; the rows that the watch ended; seconds."""
    seconds, stopped, done = 0.0, set[int](), 1
    while True:
        if watch is not None:
            tokens = jax.device_get(state.tokens_BN)
            ending = watch([[id for id in row if id != decode.NONE] for row in tokens[:texts].tolist()])
            stopped |= {row for row in ending if not state.ended_B[row]}
            chosen = np.array([row in ending for row in range(len(tokens))])
            state = dataclasses.replace(state, ended_B=state.ended_B | chosen)
        if done >= new_tokens or bool(state.ended_B.all()):
            return state, stopped, seconds
        done = new_tokens if watch is None else min(done + _CHUNK, new_tokens)
        until = np.int32(done)
        state, took = _timed(decode.decode, *asked, state, until, sampling=sampling)
        seconds += took


def _timed(program: Any, *arguments: Any, **settings: Any) -> tuple[Any, float]:
    """The result, and the seconds without those of compiling."""
    program.lower(*arguments, **settings).compile()  # the call below finds it compiled
    begin = time.perf_counter()
    result = jax.block_until_ready(program(*arguments, **settings))
    return result, time.perf_counter() - begin


def _limit(config: Any, text: Sequence[int], number: int, frame: Frame, new_tokens: int) -> int:
    """Tokens that may be chosen for a prompt, framed."""
    if not text:
        raise UserError(f"Prompt {number + 1} is empty, and this model's texts begin with no special token.")
    try:
        config.check_row_length(len(text), "model")
    except UserError as error:
        raise UserError(
            f"Prompt {number + 1} has {len(text)} tokens, more than this model has positions. Shorten it. ({error})"
        ) from error
    begun = len(frame.start) if frame.encoder_decoder else len(text)
    # The last token that is chosen needs no position: nothing is computed from it.
    fitting = bisect.bisect_left(range(1, new_tokens), True, key=lambda n: _refused(config, begun + n))
    return 1 + fitting


def _refused(config: Any, length: int) -> bool:
    try:
        config.check_row_length(length, "model")
    except UserError:
        return True
    return False


def _left_padded(texts: Sequence[Sequence[int]]) -> Batch:
    """A decoder's prompts."""
    width = predict.size(max(map(len, texts)))
    tokens, segments, positions = np.zeros((3, len(texts), width), np.int32)
    for row, text in enumerate(texts):
        span = slice(width - len(text), width)
        tokens[row, span], segments[row, span], positions[row, span] = text, 1, np.arange(len(text))
    return Batch(tokens_BT=tokens, segments_BT=segments, positions_BT=positions)


def sources(texts: Sequence[Sequence[int]], frame: Frame) -> Batch:
    """An encoder-decoder's sources, padded behind, and what its decoder begins with."""
    width = predict.size(max(map(len, texts)))
    tokens, segments = np.zeros((2, len(texts), width), np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)], segments[row, : len(text)] = text, 1
    start = np.tile(np.array(frame.start, np.int32), (len(texts), 1))
    places = lambda like: np.broadcast_to(np.arange(like.shape[1], dtype=np.int32), like.shape)
    return Batch(
        tokens_BT=start,
        segments_BT=np.ones_like(start),
        positions_BT=places(start),
        source_tokens_BS=tokens,
        source_segments_BS=segments,
        source_positions_BS=places(tokens) * segments,
    )
