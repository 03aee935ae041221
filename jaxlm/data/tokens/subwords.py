"""What every tokenizer offers, whatever library is behind it. In: text. Out: token ids without special tokens.

Guaranteed: raw text never produces a special id (a document that says "[SEP]" gets ordinary pieces), encoding in
batches equals encoding one by one, and `fingerprint` changes when any id could.
"""

import abc
import functools
import hashlib
import json
import os
import string
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxlm.data.tokens import chat_template
from jaxlm.data.tokens.chat_template import ChatTemplate
from jaxlm.errors import UserError, check_text

if typing.TYPE_CHECKING:
    from jaxlm.batch import Vocabulary

# Names of the same role in the tokenizers of BERT, SentencePiece, RoBERTa, GPT-2, Llama and T5, in order of preference.
SPECIAL_NAMES: dict[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<cls>", "<s>"),
    "sep": ("[SEP]", "<sep>", "</s>"),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<bos>", "<|begin_of_text|>", "[BOS]", "<|endoftext|>", "[CLS]"),
    "eos": ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>", "[EOS]", "[SEP]"),
}
# Prefix, suffix, middle, as published with models that fill in the middle.
INFILL_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Settings of Hugging Face beside a tokenizer, where a role may have a name of its own.
ROLE_FILES = ("tokenizer_config.json", "special_tokens_map.json")
# Between words in the byte alphabet of GPT-2: space, newline, tab, carriage return.
_BYTE_SPACES = ("Ġ", "Ċ", "ĉ", "č")
_PUNCTUATION = frozenset(string.punctuation + "–—…“”‘’«»、。，！？；：（）「」『』")
_STOPS = frozenset(".!?。！？")
_AFTER_STOPS = _STOPS | frozenset("\"')]}”’»」』）")


class Tokenizer(abc.ABC):
    """Text ↔ ids. `pieces[id]` is the string of a token; `fingerprint` a hex SHA-256; `name` is for messages."""

    pieces: list[str]
    fingerprint: str
    name: str
    roles: Mapping[str, str] = types.MappingProxyType(
        {}
    )  # role -> name, where the usual names do not lead to it
    chat: ChatTemplate | None = None  # of conversations, as it stands beside the tokenizer
    starts_with_bos: bool = False  # whether the settings beside it put bos before a prompt
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

    def encode_marked_with_offsets(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Both at once: ids where special tokens in the text count as such, and the characters of each."""
        raise UserError(
            f"tokenizer {self.name}: conversations take a tokenizer.json. Make one with transformers: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)."
        )

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
        """Ids of one text. UserError for what is none."""
        check_text(text, "tokenizer")
        return self.encode_batch([text])[0].tolist()

    def token(self, id: int) -> str:
        """The piece with this id."""
        return self.pieces[id]

    def special(self, role: str) -> int | None:
        """Id of a role ('pad', 'unk', 'cls', 'sep', 'mask', 'bos', 'eos'); None when the tokenizer has none."""
        names = (self.roles[role],) if role in self.roles else SPECIAL_NAMES[role]
        return next((self._ids[name] for name in names if name in self._ids), None)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {piece: id for id, piece in enumerate(self.pieces)}

    @functools.cached_property
    def vocabulary(self) -> "Vocabulary":
        """Ids for data and objectives; a role that the tokenizer lacks is -1, and without a pad token `pad` is eos."""
        from jaxlm.batch import Vocabulary  # imports jax, which worker processes do without

        ids = {role: -1 if (id := self.special(role)) is None else id for role in SPECIAL_NAMES}
        infill = next((names for names in INFILL_NAMES if all(name in self._ids for name in names)), ())
        markers = tuple(self._ids[name] for name in infill)
        sentinels = self._sentinels()
        unknown = ids["unk"] if list(ids.values()).count(ids["unk"]) == 1 else -1  # GPT-2's is its eos
        special_V = np.zeros(self.size, bool)
        special_V[[*self.control_ids(), *(id for id in ids.values() if id >= 0), *sentinels, *markers]] = True
        special_V[[unknown] if unknown >= 0 else []] = False
        continues_V = np.array([self._continues(piece) for piece in self.pieces], bool) & ~special_V
        continues_V[[unknown] if unknown >= 0 else []] = False
        stops = tuple(id for id, piece in enumerate(self.pieces) if not special_V[id] and self._stops(piece))
        if ids["pad"] < 0:
            ids["pad"] = max(ids["eos"], 0)
        return Vocabulary(
            size=self.size,
            sentinels=sentinels,
            infill=markers,
            between=self._between(ids["sep"]),
            stops=stops,
            special_V=special_V,
            continues_V=continues_V,
            **ids,
        )

    def _between(self, sep: int) -> tuple[int, ...]:
        """What its own template puts before the second text of a pair, behind the [SEP] of the first."""
        return ()

    def _sentinels(self) -> tuple[int, ...]:
        """Ids of <extra_id_0>, <extra_id_1>, ... as far as there is no gap."""
        found = []
        while (id := self._ids.get(f"<extra_id_{len(found)}>")) is not None:
            found.append(id)
        return tuple(found)

    def save_roles(self, directory: str | os.PathLike[str]) -> list[str]:
        """Writes the names of roles that were given and not found by name, and the chat template with the names that
        it uses; the files written."""
        names = {f"{role}_token": name for role, name in sorted(self.roles.items())}
        texts = {}
        if self.chat is not None:
            texts[chat_template.FILE], names = self.chat.text, names | dict(self.chat.names)
        if names:
            texts[ROLE_FILES[1]] = json.dumps(names, indent=1, ensure_ascii=False) + "\n"
        for name, text in texts.items():
            (Path(directory) / name).write_text(text, encoding="utf-8", newline="")
        return list(texts)

    def assign_roles(self, names: Mapping[str, str]) -> None:
        """Keeps the given names that differ from what the usual names lead to; they count in the fingerprint."""
        usual = {role: self.special(role) for role in SPECIAL_NAMES}
        given = {role: name for role, name in names.items() if role in usual and name in self._ids}
        self.roles = {role: name for role, name in given.items() if self._ids[name] != usual[role]}
        if self.roles:
            content = json.dumps([self.fingerprint, self.roles], sort_keys=True)
            self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

    def _continues(self, piece: str) -> bool:
        """Whether a piece goes on with the word before it. Punctuation stands for itself, as in BERT's whole words."""
        if self.marker == "##":
            return piece.startswith("##") and len(piece) > 2
        if not self.marker or not piece:
            return False
        begins = piece.startswith(_BYTE_SPACES if self.marker == "Ġ" else self.marker)
        return not begins and not all(letter in _PUNCTUATION for letter in piece)

    def _stops(self, piece: str) -> bool:
        """Whether a piece ends a sentence: full stop, exclamation or question mark, maybe with what closes a quote."""
        bare = piece.removeprefix(self.marker).strip("".join(_BYTE_SPACES)) if self.marker else piece
        return any(letter in _STOPS for letter in bare) and all(letter in _AFTER_STOPS for letter in bare)


def sentinel_names(number: int) -> list[str]:
    """T5's names of the tokens that stand for spans."""
    return [f"<extra_id_{i}>" for i in range(number)]
