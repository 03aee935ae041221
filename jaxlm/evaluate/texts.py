"""How near texts are to the right ones. In: written and right texts. Out: `Interval`s by name, 0 to 100.

BLEU, chrF and TER are sacrebleu's, of a corpus: every resample adds up the counts of its sentences anew. ROUGE is the
mean F1 of rouge-score, stemmed. Where most letters of the right texts are Chinese, BLEU and TER take characters as
words (`tok:zh`); ROUGE always does so with Chinese characters, of which rouge-score itself sees none.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxlm.data.corpus import extras
from jaxlm.evaluate.classes import Sampled, resampled

EXTRA = "scores"
BLEU = ("bleu", "chrf", "ter")
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(f"[{_CHINESE}]|[^{_CHINESE}]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


def translations(written: Sequence[str], right: Sequence[str]) -> tuple[Sampled, str]:
    """bleu, chrf (chrF2), ter (lower is better), and lines with sacrebleu's signatures."""
    by_name = _metrics(right)
    counts = {
        name: np.array(metric._extract_corpus_statistics(list(written), [list(right)]), np.float64)
        for name, metric in by_name.items()
    }
    # As sacrebleu's own bootstrap does it: the statistics of the sentences are added up.
    score = lambda name, items: (
        by_name[name]._compute_score_from_stats(counts[name][items].sum(0).tolist()).score
    )
    found = resampled(len(right), lambda items: {name: float(score(name, items)) for name in by_name})
    signatures = [f"{name:<5} {metric.get_signature()}" for name, metric in by_name.items()]
    return found, "\n".join(signatures)


def summaries(written: Sequence[str], right: Sequence[str], sources: Sequence[str]) -> tuple[Sampled, str]:
    """rouge1, rouge2, rougeL, rougeLsum, and lines that compare them with lead-1, the first sentence of the source."""
    scores = rouge(written, right)
    lead = rouge([sentences(source)[0] for source in sources], right)
    mean = lambda of: lambda items: {name: float(values[items].mean()) for name, values in of.items()}
    more = {name: scores[name] - lead[name] for name in ROUGE}
    size, lines = (
        len(right),
        ["lead-1 is the first sentence of the source; beside it how far the model is above it"],
    )
    first, above = resampled(size, mean(lead)), resampled(size, mean(more))
    lines += [f"{name:<9} lead-1 {first[name]}   above it {above[name]}" for name in ROUGE]
    return resampled(size, mean(scores)), "\n".join(lines)


def rouge(written: Sequence[str], right: Sequence[str]) -> Mapping[str, np.ndarray]:
    """F1 x 100 of every text, [N], by name; rougeLsum is of sentences."""
    scoring = extras.require("rouge_score.rouge_scorer", EXTRA, "ROUGE")
    tokens = extras.require("rouge_score.tokenizers", EXTRA, "ROUGE").DefaultTokenizer(use_stemmer=True)
    scorer = scoring.RougeScorer(list(ROUGE), tokenizer=_Words(tokens))
    lines = lambda text: "\n".join(sentences(text))
    made = [scorer.score(lines(b), lines(a)) for a, b in zip(written, right, strict=True)]
    return {name: 100 * np.array([one[name].fmeasure for one in made]) for name in ROUGE}


def sentences(text: str) -> list[str]:
    """At least one, maybe empty."""
    return [part for part in _SENTENCE_END.split(" ".join(text.split())) if part] or [""]


def check(names: Sequence[str]) -> None:
    """UserError when what computes them is not installed."""
    for module, kinds in (("sacrebleu", BLEU), ("rouge_score", ROUGE)):
        if set(kinds) & set(names):
            extras.require(module, EXTRA, ", ".join(names))


def _metrics(right: Sequence[str]) -> dict[str, Any]:
    library = extras.require("sacrebleu.metrics", EXTRA, "BLEU, chrF and TER")
    letters = [letter for text in right for letter in text if letter.isalpha()]
    chinese = 2 * sum(bool(re.match(f"[{_CHINESE}]", letter)) for letter in letters) > len(letters)
    return {
        "bleu": library.BLEU(tokenize="zh" if chinese else "13a"),
        "chrf": library.CHRF(),
        "ter": library.TER(normalized=chinese, asian_support=chinese),
    }


class _Words:
    """rouge-score's words, and Chinese characters one by one."""

    def __init__(self, latin: Any) -> None:
        self.latin = latin

    def tokenize(self, text: str) -> list[str]:
        """In order."""
        chinese = lambda piece: bool(re.match(f"[{_CHINESE}]", piece))
        parts = ([piece] if chinese(piece) else self.latin.tokenize(piece) for piece in _PIECE.findall(text))
        return [word for part in parts for word in part]
