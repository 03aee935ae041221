"""Sentences: the rules one by one, and their boundaries in tokens."""

import numpy as np
import pytest

from jaxlm.data.shards import sentences

CASES = {
    "plain": ["He came.", "She saw!", "Did they win?", "Yes."],
    "titles and initials": ["Dr. J. R. Smith met Mrs. Jones in St. Ives.", "They left."],
    "references": ["See Fig. 3 and Eq. 4, e.g. Table 2, pp. 7-9, cf. Smith et al. 2012.", "Then go on."],
    "decimals and versions": ["It costs $3.50 or 1.5e-3 in version 2.0.1 today.", "The end."],
    "acronyms": ["The U.S. Army came to the U.K. Parliament.", "He lives in the U.S.", "The rest is here."],
    "companies and hours": [
        "Acme Inc. Ltd. paid at 5 p.m. yesterday.",
        "It closed at 6 p.m.",
        "The lights went out.",
    ],
    "ellipsis": ["Wait... what is… this?", "So it goes...", "Next one."],
    "quotes": ['"Stop!" he said.', '"Why?" she asked.', "(It was late.)", "“Go.”", "‘Now.’", "They went."],
    "lower case goes on": ["The file a.b. was read. or was it."],
    "pronoun": ["So did I.", "Then we slept."],
    "interrobang": ["What?!", "No!!!", "Yes."],
    "wide stops": ["这是一句。", "那是二句！", "“好。”", "是吗？"],
    "file names": ["Edit setup.py and pyproject.toml first.", "Run make."],
    "spaced stop": ["He left Ill. .", "Next ."],
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name):
    join = "" if name == "wide stops" else " "
    assert sentences.split(join.join(CASES[name])) == CASES[name]


def test_blank_lines_and_list_items_start_sentences_but_wrapped_lines_do_not():
    text = "A heading\n\nA paragraph that\nwraps. Its second.\n- item one\n- item two\n2. Second thing\n"
    assert sentences.split(text) == [
        "A heading",
        "A paragraph that\nwraps.",
        "Its second.",
        "- item one",
        "- item two",
        "2. Second thing",
    ]


def test_edges():
    assert sentences.split("") == sentences.split(" \n\n ") == []
    assert sentences.split("no stop at all") == ["no stop at all"]
    assert sentences.split(" . . . ") == [". . ."]
    assert sentences.starts("  Ab. Cd.") == [2, 6]


def test_starts_ascend_and_nothing_is_lost():
    rng = np.random.default_rng(5)
    letters = np.array(list("abcABC123 .!?…\n\n\"')(。，-*"))
    for _ in range(300):
        text = "".join(letters[rng.integers(0, len(letters), 97)])
        starts = sentences.starts(text)
        assert starts == sorted(set(starts)) and all(not text[start].isspace() for start in starts)
        assert "".join("".join(sentences.split(text)).split()) == "".join(text.split())


def test_token_lengths_sum_to_the_tokens_and_count_a_leading_space_forward():
    # "Ab cd. Ef. Gh" with pieces 'Ab' ' cd' '.' ' Ef' '.' ' Gh': the space belongs to the piece after it.
    ends = np.array([2, 5, 6, 9, 10, 13])
    assert sentences.token_lengths([0, 7, 11], ends).tolist() == [3, 2, 1]
    # without the spaces in the offsets it is the same
    assert sentences.token_lengths([0, 7, 11], ends).sum() == 6
    # a sentence that has no token of its own is dropped, a token across a boundary goes to the later one
    assert sentences.token_lengths([0, 3, 4], np.array([2, 9])).tolist() == [1, 1]
    assert sentences.token_lengths([], np.array([], np.int64)).tolist() == []
