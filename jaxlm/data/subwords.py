"""What every tokenizer offers, whatever library is behind it. In: text. Out: token ids without special tokens.

Guaranteed: raw text never produces a special id (a document that says "[SEP]" gets ordinary pieces), encoding in
batches equals encoding one by one, and `fingerprint` changes when any id could.
"""

import abc
import functools
import os
import string
import typing
from collections.abc import Sequence

import numpy as np

from jaxlm.errors import UserError

if typing.TYPE_CHECKING:
    from jaxlm.batch import Vocabulary

# Names of the same role in BERT's, SentencePiece's and RoBERTa's tokenizers, in order of preference.
SPECIAL_NAMES: dict[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
SPECIALS = tuple(names[0] for names in SPECIAL_NAMES.values())
# Between words in the byte alphabet of GPT-2: space, newline, tab, carriage return.
_BYTE_SPACES = ("Ġ", "Ċ", "ĉ", "č")
_PUNCTUATION = frozenset(string.punctuation + "–—…“”‘’«»、。，！？；：（）「」『』")


class Tokenizer(abc.ABC):
    """Text ↔ ids. `pieces[id]` is the string of a token; `fingerprint` a hex SHA-256; `name` is for messages."""

    pieces: list[str]
    fingerprint: str
    name: str
    marker: str  # '##' where pieces that continue a word are marked, '▁' or 'Ġ' where those that begin one are, else ''

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int32 ids of each text, with the library's threads."""

    @abc.abstractmethod
    def encode_batch_with_offsets(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each text: ids, and int64 [tokens, 2] character offsets (start, end); starts never decrease."""

    @abc.abstractmethod
    def encode_marked(self, text: str) -> list[int]:
        """Ids where special tokens written in the text ("Paris is [MASK].") count as such: for prompts, not corpora."""

    @abc.abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""

    @abc.abstractmethod
    def save(self, directory: str | os.PathLike[str]) -> list[str]:
        """Write the tokenizer's files; their names. `tokenizer.load(directory)` gives the same fingerprint."""

    @abc.abstractmethod
    def control_ids(self) -> set[int]:
        """Ids that stand for no text."""

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """Ids of one text."""
        return self.encode_batch([text])[0].tolist()

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of one text, and the (start, end) characters each stands for."""
        ids, offsets = self.encode_batch_with_offsets([text])[0]
        return ids.tolist(), [(int(start), int(end)) for start, end in offsets]

    def token(self, id: int) -> str:
        """The piece with this id."""
        return self.pieces[id]

    def special(self, role: str) -> int | None:
        """Id of 'pad', 'unk', 'cls', 'sep' or 'mask'; None when the tokenizer has none."""
        return next((self._ids[name] for name in SPECIAL_NAMES[role] if name in self._ids), None)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: id for id, piece in enumerate(self.pieces)}

    @functools.cached_property
    def vocabulary(self) -> "Vocabulary":
        """Ids for data and objectives; UserError when one of the five special tokens is missing."""
        from jaxlm.batch import Vocabulary  # imports jax, which worker processes do without

        roles = {role: self.special(role) for role in SPECIAL_NAMES}
        missing = [" or ".join(SPECIAL_NAMES[role]) for role, id in roles.items() if id is None]
        if missing:
            raise UserError(
                f"tokenizer {self.name}: no token {', no token '.join(missing)}. Masked language models need all five "
                "of [PAD] [UNK] [CLS] [SEP] [MASK] (or <pad> <unk> <s> </s> <mask>): add the missing ones to the "
                "tokenizer's vocabulary, or train one with WordPiece(...)."
            )
        ids = {role: id for role, id in roles.items() if id is not None}
        special_V = np.zeros(self.size, bool)
        special_V[list(self.control_ids() | set(ids.values()))] = True
        special_V[ids["unk"]] = False
        continues_V = np.array([self._continues(piece) for piece in self.pieces], bool) & ~special_V
        continues_V[ids["unk"]] = False
        return Vocabulary(size=self.size, special_V=special_V, continues_V=continues_V, **ids)

    def _continues(self, piece: str) -> bool:
        """Whether a piece goes on with the word before it. Punctuation stands for itself, as in BERT's whole words."""
        if self.marker == "##":
            return piece.startswith("##") and len(piece) > 2
        if not self.marker or not piece:
            return False
        begins = piece.startswith(_BYTE_SPACES if self.marker == "Ġ" else self.marker)
        return not begins and not all(letter in _PUNCTUATION for letter in piece)
