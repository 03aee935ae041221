"""What shards know of single documents: where each came from, and a digest by which a changed one is found.

In: the tokens of a document. Out: arrays beside the shards, 16 bytes a document in all; `Known`, both of one split.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

DIGESTS = "document_digests"  # uint64 [documents], see `of_tokens`
ORIGINS = (
    "document_origins"  # uint32 [documents, 2]: file (a number in the index's `origins`), line or row there
)


def of_tokens(tokens: np.ndarray) -> int:
    """64 bits of the BLAKE2b of the tokens as int32: finds what changed, and is no proof that nothing did."""
    raw = np.ascontiguousarray(tokens, np.dtype("<i4")).tobytes()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8, person=b"jaxlm-document").digest(), "little")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """Digests and origins of the documents of one split, in order."""

    digests: np.ndarray  # uint64 [documents]
    origins: np.ndarray  # uint32 [documents, 2]
    names: tuple[str, ...]  # of the files

    def where(self, k: int) -> str:
        """ "docs.jsonl:17" of document k."""
        file, number = self.origins[k].tolist()
        return f"{self.names[file]}:{number}"

    def write(self, path: Path) -> None:
        """Into one .npz."""
        arrays = {"digests": self.digests, "origins": self.origins, "names": np.array(self.names, np.str_)}
        with path.open("wb") as stream:
            np.savez(stream, **arrays)

    @staticmethod
    def read(path: Path) -> "Known":
        """What `write` wrote."""
        with np.load(path) as arrays:
            return Known(
                digests=arrays["digests"], origins=arrays["origins"], names=tuple(arrays["names"].tolist())
            )
