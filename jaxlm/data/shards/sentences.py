"""Sentences by rule, for objectives that need them (next sentence prediction). In: a text. Out: where sentences start.

English and languages written alike, plus CJK stops. A stop ends a sentence unless it belongs to an abbreviation, an
initial, a decimal or a list number, or the next word goes on in lower case. A blank line and a list item always start
one. Offsets only: a document has the same tokens with and without sentences.
"""

import itertools
import re
from collections.abc import Sequence

import numpy as np

# After these a full stop never ends a sentence: a name, a number or a reference follows.
_MORE = (
    "mr mrs ms mx messrs dr prof rev fr st ste mt ft hon gen col maj capt cpt lt sgt cpl adm cmdr gov sen rep pres "
    "amb supt insp det e.g i.e eg ie vs v viz cf al ca approx resp no nos nr vol vols ch chap sec sect fig figs eq eqs "
    "eqn ref refs tab pp p pg para art ed eds op cit trans jan feb mar apr jun jul aug sept sep oct nov dec mon tue "
    "tues wed thu thur thurs fri dept univ ave blvd rd hwy bros est def thm lem prop cor w.r.t wrt incl excl"
)
# After these it does when a capital follows that usually opens a sentence.
_EITHER = "etc inc ltd co corp llc plc jr sr esq ph.d m.d b.a m.a b.s m.s a.m p.m b.c a.d"
_OPEN = (
    "the a an this that these those it its he she they we you i his her their our my in on at by for from with to of "
    "as if when while where after before since because although though but and or so yet however thus then there "
    "here what who why how which some many most all no not each both one two see note is are was were"
)
_BEFORE_MORE, _BEFORE_EITHER, _OPENERS = (frozenset(words.split()) for words in (_MORE, _EITHER, _OPEN))
_CLOSING = "\"'”’»)\\]}›"
_CANDIDATE = re.compile(
    rf"(?P<stop>[.!?…]+[{_CLOSING}]*)(?=\s)"
    r"|(?P<wide>[。！？｡]+[”’」』）】〉》\"')\]]*)"
    r"|(?P<gap>\n[ \t\r\f]*\n|\n(?=[ \t]*(?:[-*•+–]|\(?\d{1,3}[.)])[ \t]))"
)
_WORD_BEFORE = re.compile(r"[^\s(\[{<\"'“‘«—–]+$")
_ACRONYM = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_NOT_SPACE = re.compile(r"\S")
_NEXT_WORD = re.compile(r"[\w]+")
_OPENING = "\"'“‘«([{‹*_"
_LOOK_BACK = 40  # characters; no abbreviation is longer


def starts(text: str) -> list[int]:
    """Character offset of the first letter of every sentence, ascending; [] for a text of nothing but space."""
    first = _NOT_SPACE.search(text)
    if first is None:
        return []
    found = [first.start()]
    for match in _CANDIDATE.finditer(text):
        following = _NOT_SPACE.search(text, match.end())
        if following is None:
            break
        start = following.start()
        if start > found[-1] and (match.lastgroup != "stop" or _ends(text, match, start)):
            found.append(start)
    return found


def split(text: str) -> list[str]:
    """The sentences as strings, stripped."""
    bounds = [*starts(text), len(text)]
    return [text[start:end].strip() for start, end in itertools.pairwise(bounds)]


def _ends(text: str, match: re.Match[str], start: int) -> bool:
    """Whether a stop followed by space ends a sentence; `start` is where the next one would begin."""
    next_letter = text[start]
    if next_letter in _OPENING and start + 1 < len(text):
        next_letter = text[start + 1]
    if next_letter.islower() or next_letter in ".,;:":
        return False
    if match["stop"].rstrip("\"'”’»)]}›") != ".":
        return True
    before = _WORD_BEFORE.search(text, max(0, match.start() - _LOOK_BACK), match.start())
    if before is None:
        return True
    word = before.group()
    if word.isdigit() and len(word) <= 3 and _at_line_start(text, before.start()):
        return False  # "2. Second item"
    if word.lower() in _BEFORE_MORE:
        return False
    if (
        (len(word) == 1 and word.isalpha() and word != "I")
        or _ACRONYM.fullmatch(word)
        or word.lower() in _BEFORE_EITHER
    ):
        return _opens(text, start)
    return True


def _at_line_start(text: str, position: int) -> bool:
    return text[text.rfind("\n", 0, position) + 1 : position].strip() == ""


def _opens(text: str, start: int) -> bool:
    following = _NEXT_WORD.search(text, start)
    return following is not None and following.group().lower() in _OPENERS


def token_lengths(sentence_starts: Sequence[int], token_ends: np.ndarray) -> np.ndarray:
    """Tokens in every sentence (int32 > 0, their sum is the number of tokens).

    A token is of the sentence in which it ends: SentencePiece's '▁The' starts at the space before the sentence.
    """
    ends = np.maximum.accumulate(token_ends) if len(token_ends) else token_ends
    bounds = np.searchsorted(ends, np.asarray(sentence_starts[1:], np.int64), side="right")
    lengths = np.diff(np.concatenate([[0], bounds, [len(token_ends)]]))
    return lengths[lengths > 0].astype(np.int32)
