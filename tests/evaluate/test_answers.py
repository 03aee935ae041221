"""Claims about SQuAD's rule: exact match and F1 as the official scripts define them, written anew here."""

import collections
import random
import re
import string

import numpy as np
import pytest

from jaxlm.evaluate import answers

WORDS = [
    "The",
    "cat,",
    "an",
    "A",
    "cat",
    "mat",
    "U.S.",
    "sat",
    "  ",
    "on-the",
    "(a)",
    "Ünder",
    "11",
    "theory",
]


def normalize_answer(s):
    """As in the official evaluation script for SQuAD 2.0."""

    def remove_articles(text):
        return re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    return white_space_fix(remove_articles(remove_punc(s.lower())))


def get_tokens(s):
    return normalize_answer(s).split() if s else []


def compute_f1(a_gold, a_pred):
    gold_toks, pred_toks = get_tokens(a_gold), get_tokens(a_pred)
    num_same = sum((collections.Counter(gold_toks) & collections.Counter(pred_toks)).values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision, recall = num_same / len(pred_toks), num_same / len(gold_toks)
    return 2 * precision * recall / (precision + recall)


def find_best_thresh(preds, scores, na_probs, qid_to_has_ans):
    num_no_ans = sum(1 for k in qid_to_has_ans if not qid_to_has_ans[k])
    cur_score = best_score = num_no_ans
    best_thresh = 0.0
    for qid in sorted(na_probs, key=lambda k: na_probs[k]):
        diff = scores[qid] if qid_to_has_ans[qid] else (-1 if preds[qid] else 0)
        cur_score += diff
        if cur_score > best_score:
            best_score, best_thresh = cur_score, na_probs[qid]
    return best_score / len(scores), best_thresh


def drawn(number=300, seed=0):
    rng = random.Random(seed)
    text = lambda most: " ".join(rng.choices(WORDS, k=rng.randint(1, most)))
    right = [[text(3) for _ in range(rng.randint(1, 3))] if rng.random() < 0.7 else [] for _ in range(number)]
    said = [rng.choice(gold) if gold and rng.random() < 0.4 else text(3) for gold in right]
    return said, right, [rng.gauss(0 if gold else 1, 2) for gold in right]


def theirs(said, right):
    """(exact, f1) of one question."""
    golds = [a for a in right if normalize_answer(a)] or [""]
    return (
        max(int(normalize_answer(a) == normalize_answer(said)) for a in golds),
        max(compute_f1(a, said) for a in golds),
    )


def test_normalisation_and_scores_are_the_official_ones():
    said, right, _ = drawn()
    for text in [*said, "An apple", "a an the", "don't", "“the”"]:
        assert answers.normalized(text) == normalize_answer(text)
    expected = [theirs(*one) for one in zip(said, right, strict=True)]
    ours = [answers.exact_and_f1(*one) for one in zip(said, right, strict=True)]
    np.testing.assert_allclose(ours, expected)
    assert 0.2 < np.mean([exact for exact, _ in expected]) < 0.8
    groups = [n // 5 for n in range(len(said))]
    found = answers.metrics(said, right, groups)
    assert [found["exact"].value, found["f1"].value] == pytest.approx(np.mean(expected, axis=0).tolist())
    assert found["f1"].low < found["f1"].value < found["f1"].high


def test_either_side_empty_is_right_only_if_both_are():
    assert answers.exact_and_f1("", []) == (1.0, 1.0)
    assert answers.exact_and_f1("cat", []) == (0.0, 0.0)
    assert answers.exact_and_f1("", ["cat"]) == (0.0, 0.0)
    assert answers.exact_and_f1("the cat", ["a dog", "Cat."]) == (1.0, 1.0)


def test_no_answer_is_scored_with_its_threshold_and_the_best_is_the_official_one():
    said, right, scores = drawn(seed=3)
    found = answers.metrics_with_none(said, right, range(len(said)), scores, 0.5)
    given = ["" if score > 0.5 else text for text, score in zip(said, scores, strict=True)]
    each = np.array([theirs(*one) for one in zip(given, right, strict=True)])
    has = np.array([any(map(normalize_answer, golds)) for golds in right])
    for i, name in enumerate(("exact", "f1")):
        assert found[name].value == pytest.approx(each[:, i].mean())
        assert found[f"has_answer_{name}"].value == pytest.approx(each[has, i].mean())
        assert found[f"no_answer_{name}"].value == pytest.approx(each[~has, i].mean())
        raw = {n: theirs(*one)[i] for n, one in enumerate(zip(said, right, strict=True))}
        best, at = find_best_thresh(
            {n: normalize_answer(t) for n, t in enumerate(said)},
            raw,
            dict(enumerate(scores)),
            dict(enumerate(has)),
        )
        assert found[f"best_{name}"].value == pytest.approx(best)
        assert found[f"best_{name}_threshold"].value == pytest.approx(at)
        assert best >= found[name].value


def test_no_threshold_lies_between_equal_scores():
    ones, zeros = np.ones(3), np.zeros(3)
    assert answers.best_threshold(
        np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([1, 2, 2.0])
    ) == (
        pytest.approx(2 / 3),
        1.0,
    )
    assert answers.best_threshold(zeros, ones, np.array([3.0, 2, 4])) == (1.0, 1.0)  # below them all
