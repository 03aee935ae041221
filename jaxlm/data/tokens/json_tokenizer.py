"""Tokenizers of the `tokenizers` library. In: the text of a tokenizer.json. Out: a `Tokenizer`.

The fingerprint is that of the file's content, less what does not change ids here (post-processor, truncation, padding),
so it does not depend on the library's version.
"""

import contextlib
import functools
import hashlib
import json
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from jaxlm.data.tokens import json_settings, normalization, subwords
from jaxlm.data.tokens.settings import Settings
from jaxlm.errors import Damaged, reading

FILE = "tokenizer.json"
_GAPS = 4  # published vocabularies leave out less than one id in a piece


class JsonTokenizer(subwords.Tokenizer):
    """WordPiece, byte-level BPE, Unigram, ...: whatever a tokenizer.json says."""

    def __init__(self, text: str, name: str, roles: Mapping[str, str] = types.MappingProxyType({})):
        self.text = text
        self.name = name
        with reading(f"tokenizer {name}", "not a readable tokenizer.json"):
            self.config = json.loads(text)
            normalization.check(self.config)
            self._tokenizer = _library_tokenizer(text)
            self.pieces = _pieces(self._tokenizer)
            self.marker = _marker(self.config)
        # Text of a corpus is text: "[SEP]" in a document must not end a sentence.
        self._tokenizer.encode_special_tokens = True
        self.fingerprint = _fingerprint(self.config)
        self.assign_roles(roles)

    def __getstate__(self) -> tuple[Any, ...]:
        # the library's own pickle forgets encode_special_tokens
        return self.text, self.name, dict(self.roles), self.chat

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *given, self.chat = state
        self.__init__(*given)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        with self._encoding():
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def encode_batch_with_offsets(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        with self._encoding():
            encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [_placed(encoding) for encoding in encodings]

    def encode_marked(self, text: str) -> list[int]:
        with self._encoding():
            return self._marked.encode(text, add_special_tokens=False).ids

    def encode_marked_with_offsets(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        with self._encoding():
            return [_placed(one) for one in self._marked.encode_batch(list(texts), add_special_tokens=False)]

    def _encoding(self) -> contextlib.AbstractContextManager[None]:
        # A rule that nothing could compile, an unknown token that is not there: the library says so only now.
        return reading(
            f"tokenizer {self.name}", "cannot encode a text", "Take the file from the model's own folder."
        )

    def encode_framed(self, text: str, other: str | None = None) -> tokenizers.Encoding:
        """Of one text or a pair, with what the file's own template puts around it; never cut or padded."""
        with self._encoding():
            return self._marked.encode(text, other)

    def _between(self, sep: int) -> tuple[int, ...]:
        if sep < 0 or not self.config.get("post_processor"):
            return ()
        found = self.encode_framed("a", "a")
        inner = [id for id, special in zip(found.ids, found.special_tokens_mask, strict=True) if special]
        return (sep,) if inner.count(sep) == 3 else ()  # one behind each text, and one more

    @functools.cached_property
    def _marked(self) -> tokenizers.Tokenizer:
        return _library_tokenizer(self.text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([int(id) for id in ids], skip_special_tokens=True)

    def control_ids(self) -> set[int]:
        # The library's ids: those of the file are its author's claim.
        names = [added["content"] for added in self.config.get("added_tokens") or [] if added.get("special")]
        return {id for name in names if (id := self._tokenizer.token_to_id(name)) is not None}

    def save(self, directory: str | os.PathLike[str]) -> list[str]:
        (Path(directory) / FILE).write_text(self.text, encoding="utf-8")
        return [FILE, *self.save_roles(directory)]


def load(text: str, name: str, settings: Settings) -> JsonTokenizer:
    """The tokenizer of a tokenizer.json with the settings beside it. UserError where they do not fit together."""
    with reading(f"tokenizer {name}", "not a readable tokenizer.json"):
        config = json.loads(text)
        made = json_settings.merged(config, settings)
    text = text if made == config else json.dumps(made, ensure_ascii=False)
    return JsonTokenizer(text, name, settings.roles)


def _placed(encoding: tokenizers.Encoding) -> tuple[np.ndarray, np.ndarray]:
    """Ids, and the characters of each."""
    return np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int64).reshape(-1, 2)


def _library_tokenizer(text: str) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pieces(tokenizer: tokenizers.Tokenizer) -> list[str]:
    by_id = {id: piece for piece, id in tokenizer.get_vocab(with_added_tokens=True).items()}
    if not by_id or max(by_id) > _GAPS * len(by_id) + 10_000:
        raise Damaged(f"{len(by_id)} pieces have ids of up to {max(by_id, default=-1)}")
    return [by_id.get(id, "") for id in range(max(by_id) + 1)]  # ids may have gaps


def _fingerprint(config: dict) -> str:
    kept = {
        key: value for key, value in config.items() if key not in ("post_processor", "truncation", "padding")
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _marker(config: dict) -> str:
    model = config["model"]
    if model.get("type") == "WordPiece":
        return model.get("continuing_subword_prefix", "##")
    steps = json.dumps([config.get(step) for step in ("normalizer", "pre_tokenizer", "decoder")])
    if "ByteLevel" in steps:
        return "Ġ"
    return "▁" if "Metaspace" in steps or "\\u2581" in steps else ""
