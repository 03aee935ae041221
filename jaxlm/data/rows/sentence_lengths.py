"""The sentences of a split as arrays. In: shards with sentence lengths. Out: `Sentences`, all in a row.

About 12 bytes of memory per sentence; read only when a table of pairs or texts is made, never when one is found.
"""

import dataclasses

import numpy as np

from jaxlm.data.rows.items import Shards

BLOCK = 1 << 15  # documents read at once


@dataclasses.dataclass(frozen=True)
class Sentences:
    """The sentences of all documents one after another; documents and sentences without tokens are left out."""

    lengths: np.ndarray  # [sentences]
    ends: np.ndarray  # int64 [sentences + 1]: tokens before each sentence
    offsets: np.ndarray  # int64 [documents + 1]: first sentence of each document
    document: np.ndarray  # [documents]: its number in the shards


def read_sentences(shards: Shards) -> Sentences:
    """All sentence lengths of a split."""
    counts, parts = np.zeros(len(shards), np.int64), [np.zeros(0, np.int32)]
    for low in range(0, len(shards), BLOCK):  # an array per document would cost 100 bytes each
        block = [shards.sentence_lengths(k) for k in range(low, min(low + BLOCK, len(shards)))]
        counts[low : low + len(block)] = [np.count_nonzero(lengths) for lengths in block]
        together = np.concatenate(block)
        parts.append(together[together > 0].astype(np.int32))
    lengths = np.concatenate(parts)
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    offsets = np.concatenate([[0], np.cumsum(counts[counts > 0])])
    return Sentences(lengths, ends, offsets, np.flatnonzero(counts))
