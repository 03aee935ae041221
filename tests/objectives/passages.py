"""Rows of passages and a vocabulary for the tests of text-to-text objectives; odd sizes, every role present."""

import numpy as np

from jaxlm.batch import NONE, Row, Vocabulary
from jaxlm.data.rows.documents import FOLLOWING

V = 211
SENTINELS = tuple(range(V - 1, V - 61, -1))  # as in T5, the first has the highest id
PAD, BOS, EOS, MASK, PREFIX, SUFFIX, MIDDLE = 0, 1, 2, 3, 4, 5, 6
STOPS = (7, 8)
SPECIAL = np.zeros(V, bool)
SPECIAL[[PAD, BOS, EOS, MASK, PREFIX, SUFFIX, MIDDLE, *SENTINELS]] = True
VOCABULARY = Vocabulary(
    size=V,
    pad=PAD,
    bos=BOS,
    eos=EOS,
    mask=MASK,
    sentinels=SENTINELS,
    infill=(PREFIX, SUFFIX, MIDDLE),
    stops=STOPS,
    special_V=SPECIAL,
    continues_V=np.zeros(V, bool),
)
FIRST, LAST = 7, V - 61  # ordinary ids


def texts_of(sizes, seed=0):
    """Random ordinary tokens, one array per size."""
    rng = np.random.default_rng(seed)
    return [rng.integers(FIRST, LAST, size, dtype=np.int32) for size in sizes]


def make_row(texts, length, following=None):
    """A row of bare pieces, as data.rows makes it from data.passages; following tokens default to eos."""
    following = [EOS] * len(texts) if following is None else following
    slots = len(texts) + 2
    row = Row(
        tokens_T=np.full(length, PAD, np.int32),
        segments_T=np.zeros(length, np.int32),
        positions_T=np.zeros(length, np.int32),
        texts_T=np.zeros(length, np.int32),
        first_C=np.zeros(slots, np.int32),
        columns={FOLLOWING: np.full(slots, NONE, np.int32)},
    )
    at = 0
    for c, text in enumerate(texts):
        span = slice(at, at + len(text))
        row.tokens_T[span], row.segments_T[span], row.positions_T[span] = text, c + 1, np.arange(len(text))
        row.first_C[c], row.columns[FOLLOWING][c] = at, following[c]
        at = span.stop
    return row


def row_lengths(objective, row_length, rng, segments):
    """Sizes of that many pieces (or fewer) which the plan could put into one row."""
    room = objective.plan_length(row_length)
    sizes = []
    for _ in range(segments):
        left = room - sum(sizes) - objective.overhead * (len(sizes) + 1)
        if left < 1:
            break
        sizes.append(int(rng.integers(1, left + 1)) if len(sizes) + 1 < segments else left)
    return sizes


def prepare(objective, texts, row_length, seed=0, labels=None):
    """One row of a batch."""
    row = make_row(texts, objective.plan_length(row_length), labels)
    return objective.prepare(row, VOCABULARY, np.random.default_rng(seed), train=True)


def decoded(made):
    """For every segment: (source tokens or None, input tokens, targets with -1 where nothing is predicted, prefix)."""
    found = []
    for segment in range(1, int(made.segments_BT.max(initial=0)) + 1):
        at = np.flatnonzero(made.segments_BT == segment)
        assert at.tolist() == list(range(at[0], at[-1] + 1))
        assert made.positions_BT[at].tolist() == list(range(len(at)))
        targets = np.where(made.targets.weights_BM[at] > 0, made.targets.ids_BM[at], -1)
        source = prefix = None
        if made.source_tokens_BS is not None:
            there = made.source_segments_BS == segment
            source = made.source_tokens_BS[there]
            assert made.source_positions_BS[there].tolist() == list(range(len(source)))
        if made.prefix_BT is not None:
            prefix = made.prefix_BT[at]
        found.append((source, made.tokens_BT[at], targets, prefix))
    padding = made.segments_BT == 0
    assert not made.targets.weights_BM[padding].any() and (made.tokens_BT[padding] == PAD).all()
    if made.source_tokens_BS is not None:
        assert made.source_segments_BS.max(initial=0) == len(found), "a source without its target"
    return found


def without_sentinels(source, target):
    """The text that a source with sentinels and their target stand for; both without eos."""
    spans = {}
    current = None
    for token in target.tolist():
        if token in SENTINELS:
            current = spans.setdefault(token, [])
        else:
            current.append(token)
    text = []
    for token in source.tolist():
        text += spans.pop(token) if token in SENTINELS else [token]
    assert not spans, "a target without its place"
    return text
