"""Random spans and their sentinels, as T5 draws them (Raffel et al., 1910.10683). In: tokens. Out: source and target.

Shared by span corruption and UL2's denoisers. The number of hidden tokens and of spans follows from a length alone, so
that rows have fixed sizes; which tokens they are is uniform over all ways to cut a text into that many spans.
"""

import numpy as np


def counts(tokens: int, density: float, mean_span: float) -> tuple[int, int]:
    """(hidden tokens, spans) of a text: at least one of each, and between spans at least one token that is seen."""
    if tokens < 2:
        return 0, 0
    hidden = min(max(round(tokens * density), 1), tokens - 1)
    return hidden, max(min(round(hidden / mean_span), hidden, tokens - hidden), 1)


def share_out(
    sizes: np.ndarray,
    density: float,
    mean_span: float,
    room: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """(hidden tokens, spans) of every segment of a row; together they are those of one text of that length.

    A segment gets its exact share of the spans, rounded up or down at random, and where there is room at least one; of
    the hidden tokens it gets its share. `room`: tokens of the source and of the target row, where every span has its
    sentinel and every segment its eos. Rounding is bent to it; where that is not enough the shortest segments get none.
    """
    sizes = np.where(sizes < 2, 0, sizes)
    while sizes.any():
        hidden, spans = counts(int(sizes.sum()), density, mean_span)
        mine = np.minimum(_proportional(sizes, spans, rng), sizes // 2)
        for i in rng.permutation(np.flatnonzero((mine == 0) & (sizes > 0))).tolist():
            mine[i] = 1
            least, most = _bounds(sizes, mine, room)
            mine[i] = int(least <= hidden <= most)
        least, most = _bounds(sizes, mine, room)
        tokens = _filled(np.where(mine > 0, sizes, 0), mine, min(max(hidden, least), most), rng)
        if least <= tokens.sum() <= most:
            return tokens, mine
        sizes = np.where(sizes == sizes[sizes > 0].min(), 0, sizes)
    return np.zeros(len(sizes), int), np.zeros(len(sizes), int)


def _bounds(sizes: np.ndarray, mine: np.ndarray, room: tuple[int, int]) -> tuple[int, int]:
    """Least and most hidden tokens with which source and target fit."""
    fixed = int(mine.sum() + (mine > 0).sum())
    return int(sizes[mine > 0].sum()) + fixed - room[0], room[1] - fixed


def noise_mask(tokens: int, hidden: int, spans: int, rng: np.random.Generator) -> np.ndarray:
    """bool: `spans` runs of hidden tokens; the text begins with a seen one and ends with a hidden one."""
    runs = np.stack([_partition(tokens - hidden, spans, rng), _partition(hidden, spans, rng)], axis=1)
    return np.repeat(np.tile([False, True], spans), runs.ravel())


def with_sentinels(
    tokens: np.ndarray, mask: np.ndarray, sentinels: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens with a sentinel for every hidden run, the sentinels each followed by its run)."""
    begins = mask & ~np.concatenate([[False], mask[:-1]])
    marks = np.asarray(sentinels[: int(begins.sum())], np.int32)
    source = tokens.copy()
    source[begins] = marks
    target = np.insert(tokens[mask], np.flatnonzero(begins[mask]), marks)
    return source[~mask | begins], target


def _filled(sizes: np.ndarray, spans: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """`total` hidden tokens in proportion to `sizes`; at least one a span, and as many seen; less without room."""
    if not sizes.any():
        return sizes
    most = np.maximum(sizes - spans, 0)
    mine = np.clip(_proportional(sizes, max(total, 0), rng), spans, most)
    for i in rng.permutation(np.flatnonzero(sizes)).tolist():
        mine[i] += np.clip(total - mine.sum(), spans[i] - mine[i], most[i] - mine[i])
    return mine


def _proportional(sizes: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """`total` shared out in proportion to sizes, each share rounded up or down, without bias."""
    edges = np.floor(np.cumsum(sizes) * (total / sizes.sum()) + rng.random()).astype(int)
    edges[-1] = total  # exact, whatever rounding did
    return np.diff(np.minimum(edges, total), prepend=0)


def _partition(items: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Sizes of `parts` non-empty parts of `items`, uniform over all ways."""
    cuts = np.sort(rng.choice(items - 1, parts - 1, replace=False)) + 1 if parts > 1 else np.empty(0, int)
    return np.diff(np.concatenate([[0], cuts, [items]]))
