"""What the rules of a foreign tokenizer may do, checked before a library follows them. Out: nothing, or `Damaged`.

Three things end the process where nothing can catch it: a compiled table of SentencePiece that leads out of itself,
rules that let a text grow without bound, and merges without the prefix that is cut off them. The table is the length of
a trie, the trie (a double array of Darts, 32 bits a unit) and texts that end in zeros.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxlm.errors import Damaged

_GROWTH = 4096  # characters out of one; published tokenizers have less than ten


def check(config: Mapping[str, Any]) -> None:
    """The normaliser, the decoder and the merges of a tokenizer.json."""
    model = config["model"]
    if prefix := model.get("continuing_subword_prefix") if model.get("type", "BPE") == "BPE" else None:
        for merge in model.get("merges") or ():
            if not (merge.split(" ") if isinstance(merge, str) else merge)[-1].startswith(prefix):
                raise Damaged(f"the merge {str(merge)[:80]!r} does not go on with {prefix[:80]!r}")
    for part in ("normalizer", "decoder"):
        growth = 1
        for rule in _rules(config.get(part)):
            if table := rule.get("precompiled_charsmap"):
                check_table(base64.b64decode(table))
            texts = [rule[key] for key in ("content", "prepend") if isinstance(rule.get(key), str)]
            growth *= max([1, *(len(text) + ("prepend" in rule) for text in texts)])
            growth *= 2 if rule.get("pattern") in ({"String": ""}, {"Regex": ""}) else 1
        if growth > _GROWTH:
            raise Damaged(f"its {part} makes {growth} characters of one")


def check_table(table: bytes) -> None:
    """Every step through the trie stays in it, and every value of it is the start of a text."""
    size = int.from_bytes(table[:4], "little")
    texts = np.frombuffer(table[4 + size :], np.uint8)
    if not 0 < size <= len(table) - 4 or size % 1024 or not len(texts) or texts[-1]:
        raise Damaged("its table of normalisation is cut")
    table[4 + size :].decode()
    units_N = np.frombuffer(table, "<u4", size // 4, 4).astype(np.int64)
    places = np.flatnonzero(units_N < 2**31)  # the others are values
    units = units_N[places]
    inner = places ^ ((units >> 10) << ((units & 0x200) >> 6))
    if np.any((inner | 0xFF) >= len(units_N)):
        raise Damaged("its table of normalisation leads out of itself")
    values = units_N[inner[(units & 0x100) > 0]] & 0x7FFFFFFF
    if np.any(values >= len(texts)) or np.any((texts[values] & 0xC0) == 0x80):
        raise Damaged("its table of normalisation has a value without a text")


def _rules(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        yield value
        yield from _rules(list(value.values()))
    elif isinstance(value, list):
        for inner in value:
            yield from _rules(inner)
