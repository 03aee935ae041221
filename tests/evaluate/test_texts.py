"""Claims about BLEU, chrF, TER and ROUGE: values are the libraries', intervals those of whole corpora drawn anew."""

import numpy as np
import pytest

pytest.importorskip("sacrebleu", reason="needs the extra `scores` (sacrebleu)")
pytest.importorskip("rouge_score", reason="needs the extra `scores` (rouge-score)")

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER

from jaxlm.errors import UserError
from jaxlm.evaluate import texts

RIGHT = [
    "The cat sat on the mat.",
    "Two dogs are running in the park!",
    "It is raining again today.",
    "A red car.",
]
WRITTEN = [
    "The cat is on the mat.",
    "Two dogs run in a park!",
    "It is raining today.",
    "A blue car stood there.",
]
SOURCES = [f"{text} And more of it. The end." for text in reversed(RIGHT)]


def test_values_are_those_of_sacrebleu_and_every_resample_is_a_corpus():
    found, signatures = texts.translations(WRITTEN, RIGHT)
    metrics = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}
    rng = np.random.default_rng(0)
    drawn = [rng.integers(4, size=4) for _ in range(1000)]
    for name, metric in metrics.items():
        assert found[name].value == pytest.approx(metric.corpus_score(WRITTEN, [RIGHT]).score, abs=1e-9)
        whole = {}
        for items in map(tuple, drawn):
            if items not in whole:
                whole[items] = metric.corpus_score(
                    [WRITTEN[i] for i in items], [[RIGHT[i] for i in items]]
                ).score
        low, high = np.percentile([whole[tuple(items)] for items in drawn], [2.5, 97.5])
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=1e-9)
    assert "bleu  nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in signatures


def test_rouge_is_that_of_the_library_beside_the_first_sentence():
    found, lead = texts.summaries(WRITTEN, RIGHT, SOURCES)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scores = [scorer.score(right, written) for right, written in zip(RIGHT, WRITTEN, strict=True)]
    for name in scorer.rouge_types:
        assert found[name].value == pytest.approx(100 * np.mean([one[name].fmeasure for one in scores]))
        assert found[name].low <= found[name].value <= found[name].high
    first = [scorer.score(a, b)["rouge1"].fmeasure for a, b in zip(RIGHT, reversed(RIGHT), strict=True)]
    assert f"rouge1    lead-1 {100 * np.mean(first):.4f}" in lead


def test_sentences_in_another_order_are_the_same_to_rougelsum_and_chinese_counts_by_character():
    found = texts.rouge(["I came. It rained."], ["It rained. I came."])
    assert found["rougeLsum"][0] == 100.0 and found["rougeL"][0] < 100.0
    assert texts.rouge(["今天天气很好"], ["今天天气不好"])["rouge1"][0] == pytest.approx(100 * 5 / 6)
    _, signatures = texts.translations(["今天天气很好。"], ["今天天气不好。"])
    assert "tok:zh" in signatures
    assert texts.sentences("") == [""] and texts.rouge([""], ["a b"])["rouge1"][0] == 0.0


def test_a_missing_library_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    texts.check(texts.ROUGE)
    with pytest.raises(UserError, match=r'bleu, chrf, ter needs the package "sacrebleu".*jaxlm\[scores\]'):
        texts.check(texts.BLEU)
